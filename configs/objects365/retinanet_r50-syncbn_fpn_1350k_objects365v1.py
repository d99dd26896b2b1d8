_base_ = './retinanet_r50_fpn_1x_objects365v2.py'

model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))

train_dataloader = dict(sampler=dict(type='InfiniteSampler'))

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1350000, val_interval=150000)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=10000),
    dict(type='MultiStepLR', begin=0, end=1350000, by_epoch=False, milestones=[900000, 1200000], gamma=0.1),
]

default_hooks = dict(checkpoint=dict(interval=150000, by_epoch=False))

log_processor = dict(by_epoch=False)
