_base_ = './mask-rcnn_x101-32x4d_fpn_sample1e-3_ms-1x_lvis-v1.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='open-mmlab://resnext101_64x4d'), groups=64))
