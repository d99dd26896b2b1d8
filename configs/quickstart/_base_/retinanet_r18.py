# RetinaNet from scratch for small pictures: ResNet-18 with trained BN, a light FPN at strides 8 to 32, GN in the head.
_base_ = '../../_base_/models/retinanet_r50_fpn.py'

model = dict(
    backbone=dict(depth=18, out_indices=(1, 2, 3), frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[128, 256, 512], out_channels=64, start_level=0, num_outs=3, norm_cfg=dict(type='BN')),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(octave_base_scale=3, strides=[8, 16, 32]),
    ),
)
