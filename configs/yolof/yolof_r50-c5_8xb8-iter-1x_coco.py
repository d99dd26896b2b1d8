_base_ = './yolof_r50-c5_8xb8-1x_coco.py'

train_dataloader = dict(sampler=dict(type='InfiniteSampler'))

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=22500, val_interval=4500)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=22500, by_epoch=False, milestones=[15000, 20000], gamma=0.1),
]

default_hooks = dict(checkpoint=dict(interval=2500, by_epoch=False))

log_processor = dict(by_epoch=False)
