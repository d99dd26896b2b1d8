_base_ = './retinanet_r50_fpn_ghm-1x_coco.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
