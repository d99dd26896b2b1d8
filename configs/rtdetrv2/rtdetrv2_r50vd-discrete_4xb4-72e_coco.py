_base_ = './rtdetrv2_r50vd_4xb4-72e_coco.py'

# Nearest cells in place of bilinear samples; trained from the weights of the config that it is based on.
model = dict(decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(method='discrete'))))
