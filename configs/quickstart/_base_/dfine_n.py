# D-FINE from scratch for small pictures: the backbone of D-FINE-N, 128 channels in the encoder and in three decoder
# layers as there, but strides 8 to 32.
_base_ = './rtdetr_r18.py'

model = dict(
    type='DFINE',
    backbone=dict(_delete_=True, type='HGNetV2', arch='B0', use_lab=True, out_indices=(1, 2, 3)),
    neck=dict(type='DFINEHybridEncoder', in_channels=[256, 512, 1024], expand_ratio=0.34, decoder_channels=None),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_points=[3, 6, 3]))),
    bbox_head=dict(
        type='DFINEHead', reg_max=32, reg_scale=4.0, up=0.5, loss_fgl_weight=0.15, loss_ddf_weight=1.5, temperature=5.0
    ),
)
