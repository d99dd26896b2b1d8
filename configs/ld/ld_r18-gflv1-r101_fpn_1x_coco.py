_base_ = './ld_r34-gflv1-r101_fpn_1x_coco.py'

model = dict(backbone=dict(depth=18, init_cfg=dict(checkpoint='torchvision://resnet18')))
