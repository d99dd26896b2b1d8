# RF-DETR on the pictures of rtdetr_r18_shapes.py, trained in the same way.
_base_ = ['_base_/rfdetr_nano.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(bbox_head=dict(num_classes=5))

max_epochs = 12

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, T_max=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.0005), clip_grad=dict(max_norm=1))
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=50, update_buffers=True, priority=49)
]
