# RT-DETR with half the channels of ResNet-18-vd; what is evaluated is the moving average of its weights.
_base_ = ['_base_/rtdetr_r18.py', '_base_/shapes.py', '_base_/schedule.py']

model = dict(bbox_head=dict(num_classes=5))

optim_wrapper = dict(optimizer=dict(lr=0.0005), clip_grad=dict(max_norm=1))
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=50, update_buffers=True, priority=49)
]
