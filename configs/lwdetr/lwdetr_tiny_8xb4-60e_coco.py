_base_ = ['../_base_/datasets/coco_detection.py', '../_base_/default_runtime.py']

model = dict(
    type='LWDETR',
    num_queries=100,
    num_groups=13,
    num_feature_levels=1,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=64,
        batch_augments=[dict(type='BatchSyncRandomResize', random_size_range=(448, 832), size_divisor=64, interval=1)],
    ),
    backbone=dict(
        type='WindowedViT',
        embed_dims=192,
        depth=6,
        num_heads=12,
        patch_size=16,
        pretrain_size=224,
        out_indices=(1, 3, 5),
        window_blocks=(0, 2, 4),
        num_windows=4,
        drop_path_rate=0.0,
    ),
    neck=dict(type='C2fProjector', in_channels=[192] * 3, out_channels=256, scales=(1.0,), num_blocks=3),
    decoder=dict(
        num_layers=3,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
            cross_attn_cfg=dict(embed_dims=256, num_heads=16, num_levels=1, num_points=2, dropout=0.0),
            ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    bbox_head=dict(
        type='LWDETRHead',
        num_classes=80,
        sync_cls_avg_factor=True,
        loss_cls=dict(type='IoUAwareBCELoss', alpha=0.25, gamma=2.0, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0, eps=1e-8),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=100),
)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='Resize', scale=(640, 640), keep_ratio=False)],
            [
                dict(type='RandomChoiceResize', scales=[(400, 4200), (500, 4200), (600, 4200)], keep_ratio=True),
                dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True),
                dict(type='Resize', scale=(640, 640), keep_ratio=False),
            ],
        ],
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='Resize', scale=(640, 640), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=4, num_workers=4, dataset=dict(filter_cfg=dict(filter_empty_gt=False), pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=8, num_workers=4, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 60
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[48], gamma=0.1)]
# Sec. 4.1: 0.00015 for the last block of the backbone, times 0.7 for the decoder and twice for the backbone, and 0.8 from
# block to block.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0001, weight_decay=0.0001),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(
        decay_rate=0.8,
        decay_type='layer_wise',
        custom_keys=dict(backbone=dict(lr_mult=0.735), decoder=dict(lr_mult=0.7)),
    ),
)
auto_scale_lr = dict(base_batch_size=32)

custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.003, update_buffers=True, priority=49)]
