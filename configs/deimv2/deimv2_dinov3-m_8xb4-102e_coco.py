_base_ = './deimv2_dinov3-s_8xb4-132e_coco.py'

model = dict(
    backbone=dict(vit=dict(embed_dims=256, num_heads=4)),
    neck=dict(
        in_channels=[288, 320, 320],
        out_channels=256,
        encoder=dict(
            layer_cfg=dict(self_attn_cfg=dict(embed_dims=256), ffn_cfg=dict(embed_dims=256, feedforward_channels=512))
        ),
        num_blocks=2,
        expand_ratio=0.75,
    ),
    decoder=dict(
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=256),
            cross_attn_cfg=dict(embed_dims=256),
            ffn_cfg=dict(embed_dims=256, feedforward_channels=512),
        )
    ),
    bbox_head=dict(embed_dims=256),
)

max_epochs = 102
plain_epochs = 12

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
custom_hooks = [
    _base_.custom_hooks[0],
    dict(type='PipelineSwitchHook', switch_epoch=4, switch_pipeline=_base_.dense_pipeline),
    dict(type='PipelineSwitchHook', switch_epoch=max_epochs // 2, switch_pipeline=_base_.blend_pipeline),
    dict(
        type='PipelineSwitchHook',
        switch_epoch=max_epochs - plain_epochs,
        switch_pipeline=[*_base_.load_pipeline, *_base_.pack_pipeline],
    ),
]
