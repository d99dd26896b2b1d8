_base_ = './dfine_hgnetv2-s_8xb4-124e_coco.py'

# Two levels, of stride 16 and 32, and half the channels.
model = dict(
    num_feature_levels=2,
    backbone=dict(out_indices=(2, 3)),
    neck=dict(
        in_channels=[512, 1024],
        out_channels=128,
        encode_levels=(1,),
        encoder=dict(
            layer_cfg=dict(self_attn_cfg=dict(embed_dims=128), ffn_cfg=dict(embed_dims=128, feedforward_channels=512))
        ),
        num_blocks=2,
        expand_ratio=0.34,
    ),
    decoder=dict(
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=128),
            cross_attn_cfg=dict(embed_dims=128, num_levels=2, num_points=[6, 6]),
            ffn_cfg=dict(embed_dims=128, feedforward_channels=512),
        )
    ),
    bbox_head=dict(embed_dims=128),
)

max_epochs = 160
train_dataloader = dict(batch_size=16)
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.0008))
auto_scale_lr = dict(base_batch_size=128)
custom_hooks = [
    _base_.custom_hooks[0],
    dict(
        type='PipelineSwitchHook',
        switch_epoch=max_epochs - 12,
        switch_pipeline=_base_.train_pipeline_stage2,
    ),
]
