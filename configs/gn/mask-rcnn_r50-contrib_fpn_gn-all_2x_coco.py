_base_ = './mask-rcnn_r50_fpn_gn-all_2x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(init_cfg=dict(checkpoint='open-mmlab://contrib/resnet50_gn')),
)
