_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

dataset_type = 'V3DetDataset'
data_root = 'data/V3Det/'

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

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomChoiceResize', scales=[(1333, size) for size in range(640, 801, 32)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=0.001,
        dataset=dict(
            type=dataset_type,
            data_root=data_root,
            ann_file='annotations/v3det_2023_v1_train.json',
            data_prefix=dict(img=''),
            filter_cfg=dict(filter_empty_gt=True, min_size=4),
            pipeline=train_pipeline,
            backend_args={{_base_.backend_args}},
        ),
    ),
)

val_dataloader = dict(
    dataset=dict(
        type=dataset_type, data_root=data_root, ann_file='annotations/v3det_2023_v1_val.json', data_prefix=dict(img='')
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/v3det_2023_v1_val.json', use_mp_eval=True, proposal_nums=[300])
test_evaluator = val_evaluator

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iter, val_interval=137520)

param_scheduler = [
    dict(type='LinearLR', start_factor=1.0 / 2048, by_epoch=False, begin=0, end=5000),
    dict(type='MultiStepLR', begin=0, end=max_iter, by_epoch=False, milestones=[91680, 126060], gamma=0.1),
]

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.0001, weight_decay=0.1), clip_grad=dict(max_norm=35, norm_type=2)
)

auto_scale_lr = dict(base_batch_size=32)  # 8 GPUs x 4 images

default_hooks = dict(checkpoint=dict(interval=11460, by_epoch=False))

log_processor = dict(by_epoch=False)
