_base_ = './deimv2_hgnetv2-n_8xb16-160e_coco.py'

# One map of stride 16 makes two levels; layers share their box branch, have no gates and do not teach each other.
model = dict(
    num_queries=200,
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(arch='Pico', out_indices=(2,)),
    neck=dict(
        _delete_=True,
        type='LiteEncoder',
        in_channels=[512],
        out_channels=112,
        num_blocks=2,
        expand_ratio=0.34,
        trailing_conv=True,
    ),
    decoder=dict(
        layer_cfg=dict(
            gateway=False,
            self_attn_cfg=dict(embed_dims=112),
            cross_attn_cfg=dict(embed_dims=112, num_points=[4, 2]),
            ffn_cfg=dict(embed_dims=112, feedforward_channels=320),
        )
    ),
    bbox_head=dict(embed_dims=112, share_box_branch=True, loss_fgl_weight=0.0, loss_ddf_weight=0.0),
    test_cfg=dict(max_per_img=200),
)

max_epochs = 500
plain_epochs = 32
optim_wrapper = dict(optimizer=dict(lr=0.0016))

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
