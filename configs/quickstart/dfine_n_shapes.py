# D-FINE on the pictures of rtdetr_r18_shapes.py, trained in the same way but longer: its distributions start late.
_base_ = ['_base_/dfine_n.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(bbox_head=dict(num_classes=5))

max_epochs = 24

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, T_max=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.0005), clip_grad=dict(max_norm=1))
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=50, update_buffers=True, priority=49)
]
