# RTMDet-tiny with half its channels, as ResNet-18 has in atss_r18_shapes.py.
_base_ = ['_base_/rtmdet_tiny.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(
    backbone=dict(widen_factor=0.1875),
    neck=dict(in_channels=[48, 96, 192], out_channels=48),
    bbox_head=dict(num_classes=5, in_channels=48, feat_channels=48),
)

max_epochs = 18
stage2_num_epochs = 8

# Four pictures around a random point, and a window of that; the last epochs see the pictures as they are.
train_pipeline_stage2 = _base_.train_pipeline
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CachedMosaic', img_scale=(192, 160), pad_val=114.0, max_cached_images=20),
    dict(type='RandomResize', scale=(384, 320), ratio_range=(0.7, 1.4), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(160, 192)),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, T_max=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.002))

custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=50, update_buffers=True, priority=49),
    dict(type='PipelineSwitchHook', switch_epoch=max_epochs - stage2_num_epochs, switch_pipeline=train_pipeline_stage2),
]
