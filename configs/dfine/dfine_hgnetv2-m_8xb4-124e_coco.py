_base_ = './dfine_hgnetv2-l_8xb4-74e_coco.py'

model = dict(
    backbone=dict(arch='B2', frozen_stages=-1, use_lab=True, norm_cfg=dict(requires_grad=True), norm_eval=False),
    neck=dict(in_channels=[384, 768, 1536], num_blocks=2),
    decoder=dict(num_layers=4),
)

max_epochs = 124
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=0.0002, weight_decay=0.0001), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))
)
custom_hooks = [
    _base_.custom_hooks[0],
    dict(
        type='PipelineSwitchHook',
        switch_epoch=max_epochs - 4,
        switch_pipeline=_base_.train_pipeline_stage2,
    ),
]
