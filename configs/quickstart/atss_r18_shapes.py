# ATSS in the place of RetinaNet, all else as in retinanet_r18_shapes.py.
_base_ = ['_base_/atss_r18.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(backbone=dict(base_channels=32), neck=dict(in_channels=[64, 128, 256]), bbox_head=dict(num_classes=5))
