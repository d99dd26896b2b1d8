# RT-DETR with half the channels of ResNet-18-vd on blood cells, trained as in rtdetr_r18_shapes.py.
_base_ = ['_base_/rtdetr_r18.py', '_base_/bccd_voc.py', '_base_/schedule_8e.py']

model = dict(bbox_head=dict(num_classes=3))

optim_wrapper = dict(optimizer=dict(lr=0.0005), clip_grad=dict(max_norm=1))
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=50, update_buffers=True, priority=49)
]
