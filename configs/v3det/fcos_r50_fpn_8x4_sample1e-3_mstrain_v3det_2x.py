_base_ = '../fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

dataset_type = 'V3DetDataset'
data_root = 'data/V3Det/'

max_iter = 275040

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        norm_cfg=dict(requires_grad=True), style='pytorch', init_cfg=dict(checkpoint='torchvision://resnet50')
    ),
    bbox_head=dict(
        num_classes=13204,
        cls_predictor_cfg=dict(type='NormedLinear', tempearture=50, bias=True),
        loss_cls=dict(type='FocalCustomLoss', num_classes=13204),
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
            perm_repeat_gt_cfg=dict(iou_thr=0.7, perm_range=0.01),
        ),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(score_thr=0.0001, nms=dict(iou_threshold=0.6), max_per_img=300),
)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomChoiceResize', scales=[(1333, size) for size in range(640, 801, 32)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]

train_dataloader = dict(
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

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iter, val_interval=275040)

param_scheduler = [
    dict(type='LinearLR', start_factor=1.0 / 2048, by_epoch=False, begin=0, end=10000),
    dict(type='MultiStepLR', begin=0, end=max_iter, by_epoch=False, milestones=[183360, 252120], gamma=0.1),
]

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2.5e-5, weight_decay=0.1),
    clip_grad=dict(max_norm=35, norm_type=2),
)

auto_scale_lr = dict(base_batch_size=32)  # 16 GPUs x 2 images

default_hooks = dict(checkpoint=dict(interval=11460, by_epoch=False))

log_processor = dict(by_epoch=False)
