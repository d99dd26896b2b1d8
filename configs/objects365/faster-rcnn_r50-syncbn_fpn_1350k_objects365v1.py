_base_ = './faster-rcnn_r50_fpn_16xb4-1x_objects365v2.py'

model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))

train_dataloader = dict(batch_size=2, sampler=dict(type='InfiniteSampler'))

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1350000, val_interval=150000)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=1350000, by_epoch=False, milestones=[900000, 1200000], gamma=0.1),
]

optim_wrapper = dict(optimizer=dict(lr=0.02))

auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2 images

default_hooks = dict(checkpoint=dict(interval=150000, by_epoch=False))

log_processor = dict(by_epoch=False)
