# What the labelled tenth of the shapes gives alone: the detector and the pictures of soft-teacher_r18_shapes.py, which
# starts from the weights of iteration 600.
_base_ = ['_base_/faster_rcnn_r18.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
    roi_head=dict(bbox_head=dict(num_classes=5)),
)

train_dataloader = dict(batch_size=4, sampler=dict(_delete_=True, type='InfiniteSampler'), dataset=dict(indices=30))

max_iters = 1200
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=300)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=300, by_epoch=False, max_keep_ckpts=-1))
log_processor = dict(by_epoch=False)
