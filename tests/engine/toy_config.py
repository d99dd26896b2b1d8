custom_imports = dict(imports=['toy'], allow_failed_imports=False)
default_scope = 'mmdet'
model = dict(type='ToyModel')
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ToyDataset', length=32),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ToyDataset', length=8, augment=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='ToyMetric')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9), clip_grad=dict(max_norm=5, norm_type=2)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=3, milestones=[2], gamma=0.1),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=5), checkpoint=dict(type='CheckpointHook', interval=1, save_best='auto')
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
randomness = dict(seed=7)
custom_hooks = []
