_base_ = './retinanet_timm-tv-resnet50_fpn_1x_coco.py'

model = dict(backbone=dict(model_name='efficientnet_b1'), neck=dict(in_channels=[24, 40, 112, 320]))
