_base_ = './grid-rcnn_r50_fpn_gn-head_1x_coco.py'

max_epochs = 25

train_cfg = dict(max_epochs=max_epochs)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.0125, by_epoch=False, begin=0, end=3665),
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[17, 23], gamma=0.1),
]
