_base_ = './atss_r50_fpn_ms-2x_coco.py'

model = dict(
    # these weights expect BGR, centred and scaled
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], bgr_to_rgb=False),
    backbone=dict(
        type='ResNeXt',
        depth=101,
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnext101_32x8d'),
        groups=32,
        base_width=8,
    ),
)
