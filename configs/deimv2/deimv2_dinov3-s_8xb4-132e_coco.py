_base_ = './deimv2_hgnetv2-n_8xb16-160e_coco.py'

model = dict(
    num_feature_levels=3,
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        _delete_=True,
        type='DINOv3STA',
        vit=dict(embed_dims=192, num_heads=3, num_registers=0, out_indices=(3, 7, 11)),
        detail_channels=16,
    ),
    neck=dict(
        in_channels=[224, 256, 256],
        out_channels=192,
        encode_levels=(2,),
        encoder=dict(
            layer_cfg=dict(self_attn_cfg=dict(embed_dims=192), ffn_cfg=dict(embed_dims=192, feedforward_channels=512))
        ),
        num_blocks=1,
        expand_ratio=0.34,
        trailing_conv=False,
    ),
    decoder=dict(
        num_layers=4,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=192),
            cross_attn_cfg=dict(embed_dims=192, num_levels=3, num_points=[3, 6, 3]),
            ffn_cfg=dict(embed_dims=192, feedforward_channels=512),
        ),
    ),
    bbox_head=dict(embed_dims=192),
)

max_epochs = 132
plain_epochs = 12
train_dataloader = dict(batch_size=4)
# The convolutions beside the transformer learn at full speed.
optim_wrapper = dict(
    optimizer=dict(lr=0.0005),
    paramwise_cfg=dict(custom_keys=dict({'_delete_': True, 'backbone.vit': dict(lr_mult=0.05)})),
)
auto_scale_lr = dict(base_batch_size=32)

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
