_base_ = './deimv2_dinov3-s_8xb4-132e_coco.py'

model = dict(
    backbone=dict(
        vit=dict(embed_dims=384, num_heads=6, num_registers=4, gated=True, out_indices=(5, 8, 11)), detail_channels=64
    ),
    neck=dict(
        in_channels=[512, 640, 640],
        out_channels=256,
        encoder=dict(
            layer_cfg=dict(self_attn_cfg=dict(embed_dims=256), ffn_cfg=dict(embed_dims=256, feedforward_channels=1024))
        ),
        num_blocks=4,
        expand_ratio=1.25,
    ),
    decoder=dict(
        num_layers=6,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=256),
            cross_attn_cfg=dict(embed_dims=256),
            ffn_cfg=dict(embed_dims=256, feedforward_channels=2048),
        ),
    ),
    bbox_head=dict(embed_dims=256),
)

max_epochs = 58
plain_epochs = 8
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.000125), paramwise_cfg=dict(custom_keys=dict({'backbone.vit': dict(lr_mult=0.02)}))
)

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
