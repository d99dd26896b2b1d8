# YOLOX-tiny with half its channels, as ResNet-18 has in atss_r18_shapes.py.
_base_ = ['_base_/yolox_tiny.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(
    backbone=dict(widen_factor=0.1875),
    neck=dict(in_channels=[48, 96, 192], out_channels=48),
    bbox_head=dict(num_classes=5, in_channels=48, feat_channels=48),
)

max_epochs = 20
num_last_epochs = 8

# Four pictures around a random point, and a window of that; the last epochs see the pictures as they are.
train_pipeline = [
    dict(type='Mosaic', img_scale=(192, 160), pad_val=114.0),
    dict(
        type='RandomAffine',
        scaling_ratio_range=(0.7, 1.4),
        max_rotate_degree=0.0,
        max_shear_degree=0.0,
        border=(-96, -80),
    ),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset=dict(
            type=_base_.dataset_type,
            data_root=_base_.data_root,
            ann_file='annotations/train.json',
            data_prefix=dict(img='train/'),
            metainfo=_base_.metainfo,
            filter_cfg=dict(filter_empty_gt=True, min_size=1),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)],
        ),
        pipeline=train_pipeline,
    )
)

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, T_max=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.002))

custom_hooks = [
    dict(type='YOLOXModeSwitchHook', num_last_epochs=num_last_epochs, priority=48),
    dict(type='SyncNormHook', priority=48),
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=50, update_buffers=True, priority=49),
]
