# RTMDet-tiny, whole, on blood cells.
_base_ = ['_base_/rtmdet_tiny.py', '_base_/bccd_voc.py', '_base_/schedule_8e.py']

model = dict(bbox_head=dict(num_classes=3))

# Four pictures around a random point, and a window of that; the last epochs see the pictures as they are.
train_pipeline_stage2 = _base_.train_pipeline
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CachedMosaic', img_scale=(320, 240), pad_val=114.0, max_cached_images=20),
    dict(type='RandomResize', scale=(640, 480), ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(240, 320)),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(lr=0.002))

custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=50, update_buffers=True, priority=49),
    dict(type='PipelineSwitchHook', switch_epoch=4, switch_pipeline=train_pipeline_stage2),
]
