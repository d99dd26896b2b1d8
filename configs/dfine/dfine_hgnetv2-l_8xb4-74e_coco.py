_base_ = '../rtdetr/rtdetr_hgnetv2-l_4xb4-72e_coco.py'

model = dict(
    type='DFINE',
    neck=dict(type='DFINEHybridEncoder', decoder_channels=None),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_points=[3, 6, 3]))),
    bbox_head=dict(
        type='DFINEHead', reg_max=32, reg_scale=4.0, up=0.5, loss_fgl_weight=0.15, loss_ddf_weight=1.5, temperature=5.0
    ),
)

max_epochs = 74
stage2_num_epochs = 2

# The last epochs see the pictures without distortion, zooming out and cropping, in one size.
train_pipeline_stage2 = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=(640, 640), keep_ratio=False),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs'),
]

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)]
optim_wrapper = dict(
    optimizer=dict(lr=0.00025, weight_decay=0.000125),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.05))),
)
auto_scale_lr = dict(base_batch_size=32)

custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0001, gamma=1000, update_buffers=True, priority=49),
    dict(
        type='PipelineSwitchHook',
        switch_epoch=max_epochs - stage2_num_epochs,
        switch_pipeline=train_pipeline_stage2,
    ),
]
