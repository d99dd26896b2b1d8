_base_ = './atss_r50_fpn_ms-2x_coco.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
