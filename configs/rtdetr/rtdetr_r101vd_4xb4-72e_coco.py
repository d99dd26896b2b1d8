_base_ = './rtdetr_r50vd_4xb4-72e_coco.py'

model = dict(
    backbone=dict(depth=101),
    neck=dict(
        out_channels=384,
        encoder=dict(
            layer_cfg=dict(self_attn_cfg=dict(embed_dims=384), ffn_cfg=dict(embed_dims=384, feedforward_channels=2048))
        ),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.01))))
