_base_ = '../dfine/dfine_hgnetv2-n_8xb16-160e_coco.py'

model = dict(bbox_head=dict(loss_cls=dict(_delete_=True, type='MatchabilityAwareLoss', gamma=1.5, loss_weight=1.0)))

max_epochs = 160
plain_epochs = 12

# Dense one-to-one matching: Mosaic and MixUp put more objects into a picture from the fifth epoch to the middle.
load_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
]
pack_pipeline = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=(640, 640), keep_ratio=False),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs'),
]
dense_pipeline = [
    *load_pipeline,
    dict(type='CachedMosaic', img_scale=(640, 640), pad_val=114.0, max_cached_images=40, prob=0.5),
    dict(
        type='CachedMixUp',
        img_scale=(640, 640),
        ratio_range=(1.0, 1.0),
        pad_val=(114.0, 114.0, 114.0),
        max_cached_images=20,
        prob=0.5,
    ),
    dict(type='RandomApply', prob=0.5, transforms=[dict(type='PhotoMetricDistortion')]),
    *pack_pipeline,
]

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2000),
    dict(
        type='CosineAnnealingLR',
        begin=max_epochs // 2,
        end=max_epochs - plain_epochs,
        T_max=max_epochs - plain_epochs - max_epochs // 2,
        eta_min_ratio=0.5,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(optimizer=dict(lr=0.0008), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))

custom_hooks = [
    _base_.custom_hooks[0],
    dict(type='PipelineSwitchHook', switch_epoch=4, switch_pipeline=dense_pipeline),
    dict(type='PipelineSwitchHook', switch_epoch=max_epochs // 2, switch_pipeline=_base_.train_pipeline),
    dict(
        type='PipelineSwitchHook',
        switch_epoch=max_epochs - plain_epochs,
        switch_pipeline=[*load_pipeline, *pack_pipeline],
    ),
]
