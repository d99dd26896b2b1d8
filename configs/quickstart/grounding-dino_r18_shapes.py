# Grounding DINO with half the channels of ResNet-18 learns to read and to find 'red circle . blue star .'
_base_ = ['_base_/grounding_dino_r18.py', '_base_/shapes_texts.py', '_base_/schedule.py']

model = dict(backbone=dict(base_channels=32), neck=dict(in_channels=[64, 128, 256]), bbox_head=dict(num_classes=20))

max_epochs = 12

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, T_max=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.0005), clip_grad=dict(max_norm=1))
