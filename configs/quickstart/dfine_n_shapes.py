# D-FINE on the pictures of rtdetr_r18_shapes.py, trained in the same way.
_base_ = ['_base_/dfine_n.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(bbox_head=dict(num_classes=5))

optim_wrapper = dict(optimizer=dict(lr=0.0005), clip_grad=dict(max_norm=1))
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=50, update_buffers=True, priority=49)
]
