_base_ = './lad_r101-paa-r50_fpn_2xb8_coco_1x.py'

teacher_ckpt = (
    'http://download.openmmlab.com/mmdetection/v2.0/paa/paa_r101_fpn_1x_coco/paa_r101_fpn_1x_coco_20200821-0a1825a4.pth'
)

model = dict(
    backbone=dict(depth=50, init_cfg=dict(checkpoint='torchvision://resnet50')),
    teacher_ckpt=teacher_ckpt,
    teacher_backbone=dict(depth=101),
)
