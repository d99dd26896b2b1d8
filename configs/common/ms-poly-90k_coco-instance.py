_base_ = [
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

backend = 'pillow'
max_iter = 90000

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}, imdecode_backend=backend),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, size) for size in range(640, 801, 32)],
        keep_ratio=True,
        backend=backend,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}, imdecode_backend=backend),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True, backend=backend),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(pin_memory=True, sampler=dict(type='InfiniteSampler'), dataset=dict(pipeline=train_pipeline))

val_dataloader = dict(pin_memory=True, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iter, val_interval=10000)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=max_iter, by_epoch=False, milestones=[60000, 80000], gamma=0.1),
]

default_hooks = dict(checkpoint=dict(interval=10000, by_epoch=False))

log_processor = dict(by_epoch=False)
