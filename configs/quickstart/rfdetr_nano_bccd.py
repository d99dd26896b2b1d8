# RF-DETR on blood cells; its patches have 16 pixels, as in the published sizes. Twice the learning rate and the epochs of
# rtdetr_r18_bccd.py: at half of it all queries predicted alike for longer.
_base_ = ['_base_/rfdetr_nano.py', '_base_/bccd_voc.py', '_base_/schedule.py']

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(patch_size=16, pretrain_size=320),
    bbox_head=dict(num_classes=3),
)

optim_wrapper = dict(optimizer=dict(lr=0.001), clip_grad=dict(max_norm=1))
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=50, update_buffers=True, priority=49)
]
