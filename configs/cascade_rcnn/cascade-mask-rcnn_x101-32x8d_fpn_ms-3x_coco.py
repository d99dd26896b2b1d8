_base_ = './cascade-mask-rcnn_r50-caffe_fpn_ms-3x_coco.py'

model = dict(
    data_preprocessor=dict(std=[57.375, 57.12, 58.395]),
    backbone=dict(
        type='ResNeXt',
        depth=101,
        style='pytorch',
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnext101_32x8d'),
        groups=32,
        base_width=8,
    ),
)
