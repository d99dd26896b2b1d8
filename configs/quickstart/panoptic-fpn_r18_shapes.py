# Panoptic FPN on shapes that lie on grass, sand and water: a ResNet-18 with half its channels.
_base_ = ['_base_/mask_rcnn_r18.py', '_base_/shapes_panoptic.py', '_base_/schedule.py']

model = dict(
    type='PanopticFPN',
    data_preprocessor=dict(pad_seg=True),
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
    roi_head=dict(bbox_head=dict(num_classes=5), mask_head=dict(num_classes=5)),
    semantic_head=dict(
        type='PanopticFPNHead',
        num_things_classes=5,
        num_stuff_classes=3,
        in_channels=64,
        inner_channels=32,
        norm_cfg=dict(type='GN', num_groups=8),
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5),
    ),
    panoptic_fusion_head=dict(type='HeuristicFusionHead', num_things_classes=5, num_stuff_classes=3),
    test_cfg=dict(
        rcnn=dict(score_thr=0.5, nms=dict(class_agnostic=True)), panoptic=dict(mask_overlap=0.5, stuff_area_limit=256)
    ),
)
