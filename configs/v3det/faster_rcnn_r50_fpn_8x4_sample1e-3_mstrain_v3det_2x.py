_base_ = [
    '../_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/v3det.py',
    '../_base_/default_runtime.py',
]

max_iter = 137520

model = dict(
    roi_head=dict(
        bbox_head=dict(
            num_classes=13204,
            reg_class_agnostic=True,
            loss_cls=dict(type='CrossEntropyCustomLoss', use_sigmoid=True, num_classes=13204),
            cls_predictor_cfg=dict(type='NormedLinear', tempearture=50, bias=True),
        )
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=4000, max_per_img=2000),
        rcnn=dict(assigner=dict(perm_repeat_gt_cfg=dict(iou_thr=0.7, perm_range=0.01))),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.0001, nms=dict(iou_threshold=0.6), max_per_img=300)),
)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iter, val_interval=137520)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=1.0 / 2048, by_epoch=False, begin=0, end=5000),
    dict(type='MultiStepLR', begin=0, end=max_iter, by_epoch=False, milestones=[91680, 126060], gamma=0.1),
]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0001, weight_decay=0.1),
    clip_grad=dict(max_norm=35, norm_type=2),
)

auto_scale_lr = dict(enable=False, base_batch_size=32)  # 8 GPUs x 4 images

default_hooks = dict(checkpoint=dict(interval=11460, by_epoch=False))

log_processor = dict(by_epoch=False)
