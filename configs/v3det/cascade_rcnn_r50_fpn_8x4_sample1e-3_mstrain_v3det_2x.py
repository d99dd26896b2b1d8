_base_ = [
    '../_base_/models/cascade-rcnn_r50_fpn.py',
    '../_base_/datasets/v3det.py',
    '../_base_/default_runtime.py',
]

max_iter = 137520

model = dict(
    rpn_head=dict(loss_bbox=dict(_delete_=True, type='L1Loss', loss_weight=1.0)),
    roi_head=dict(
        bbox_head=[
            dict(
                type='Shared2FCBBoxHead',
                in_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=13204,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=stds),
                reg_class_agnostic=True,
                cls_predictor_cfg=dict(type='NormedLinear', tempearture=50, bias=True),
                loss_cls=dict(type='CrossEntropyCustomLoss', num_classes=13204, use_sigmoid=True, loss_weight=1.0),
                loss_bbox=dict(type='L1Loss', loss_weight=1.0),
            )
            for stds in [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
        ]
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=4000),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                    perm_repeat_gt_cfg=dict(iou_thr=0.7, perm_range=0.01),
                ),
                sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
                pos_weight=-1,
                debug=False,
            )
            for iou in [0.5, 0.6, 0.7]
        ],
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
