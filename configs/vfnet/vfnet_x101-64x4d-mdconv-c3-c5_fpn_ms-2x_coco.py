_base_ = './vfnet_x101-32x4d-mdconv-c3-c5_fpn_ms-2x_coco.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='open-mmlab://resnext101_64x4d'), groups=64))
