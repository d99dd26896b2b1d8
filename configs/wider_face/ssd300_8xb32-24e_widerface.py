_base_ = [
    '../_base_/models/ssd300.py',
    '../_base_/datasets/wider_face.py',
    '../_base_/schedules/schedule_2x.py',
    '../_base_/default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=1))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, milestones=[16, 20], gamma=0.1),
]

optim_wrapper = dict(optimizer=dict(lr=0.012, weight_decay=0.0005), clip_grad=dict(max_norm=35, norm_type=2))

auto_scale_lr = dict(base_batch_size=256)  # 8 GPUs x 32 images
