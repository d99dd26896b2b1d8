_base_ = './dfine_hgnetv2-l_8xb4-74e_coco.py'

model = dict(
    backbone=dict(arch='B5'),
    neck=dict(
        out_channels=384,
        encoder=dict(
            layer_cfg=dict(self_attn_cfg=dict(embed_dims=384), ffn_cfg=dict(embed_dims=384, feedforward_channels=2048))
        ),
        decoder_channels=256,
    ),
    bbox_head=dict(reg_scale=8.0),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.01))))
