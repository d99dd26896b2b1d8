# DINO with half the channels of ResNet-18, as in atss_r18_shapes.py.
_base_ = ['_base_/dino_r18.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(backbone=dict(base_channels=32), neck=dict(in_channels=[64, 128, 256]), bbox_head=dict(num_classes=5))

optim_wrapper = dict(optimizer=dict(lr=0.0005), clip_grad=dict(max_norm=1))
