_base_ = '../deim/deim_dfine_hgnetv2-n_8xb16-160e_coco.py'

model = dict(
    type='DEIMv2',
    neck=dict(type='DEIMv2HybridEncoder', trailing_conv=True),
    decoder=dict(layer_cfg=dict(ffn_cfg=dict(_delete_=True, embed_dims=128, feedforward_channels=512))),
)
