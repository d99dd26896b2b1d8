# make demo trains this one: a ResNet-18 with half its channels, a few minutes on two CPU cores.
_base_ = ['_base_/retinanet_r18.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[64, 128, 256]),
    bbox_head=dict(num_classes=5),
)
