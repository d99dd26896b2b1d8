dataset_type = 'ImageNet'

data_preprocessor = dict(num_classes=1000, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
bgr_mean = [103.53, 116.28, 123.675]
bgr_std = [57.375, 57.12, 58.395]
randomness = dict(seed=None, deterministic=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmdet.CSPNeXt',
        arch='P5',
        out_indices=(4,),
        expand_ratio=0.5,
        deepen_factor=1,
        widen_factor=1,
        channel_attention=True,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='mmdet.SiLU'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original', loss_weight=1.0),
        topk=(1, 5),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.2), dict(type='CutMix', alpha=1.0)]),
)

train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmpretrain'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic', _scope_='mmpretrain'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal', _scope_='mmpretrain'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=7,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
        _scope_='mmpretrain',
    ),
    dict(type='PackInputs', _scope_='mmpretrain'),
]

test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmpretrain'),
    dict(type='ResizeEdge', scale=236, edge='short', backend='pillow', interpolation='bicubic', _scope_='mmpretrain'),
    dict(type='CenterCrop', crop_size=224, _scope_='mmpretrain'),
    dict(type='PackInputs', _scope_='mmpretrain'),
]

train_dataloader = dict(
    batch_size=256,
    num_workers=5,
    dataset=dict(
        type=dataset_type,
        data_root='data/imagenet',
        split='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(
                type='RandAugment',
                policies='timm_increasing',
                num_policies=2,
                total_level=10,
                magnitude_level=7,
                magnitude_std=0.5,
                hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
            ),
            dict(type='PackInputs'),
        ],
        _scope_='mmpretrain',
    ),
    sampler=dict(type='RepeatAugSampler', shuffle=True, _scope_='mmpretrain'),
)

val_dataloader = dict(
    batch_size=256,
    num_workers=5,
    dataset=dict(
        type=dataset_type,
        data_root='data/imagenet',
        split='val',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=236, edge='short', backend='pillow', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackInputs'),
        ],
        _scope_='mmpretrain',
    ),
    sampler=dict(type='DefaultSampler', shuffle=False, _scope_='mmpretrain'),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5), _scope_='mmpretrain')
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=600, val_interval=1)
val_cfg = dict()
test_cfg = dict()

param_scheduler = [
    dict(type='LinearLR', start_factor=0.0001, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=595, eta_min=1e-6, by_epoch=True, begin=5, end=600),
]

optim_wrapper = dict(
    optimizer=dict(type='Lamb', lr=0.005, weight_decay=0.01, _scope_='mmpretrain'),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
)

auto_scale_lr = dict(base_batch_size=2048)  # 8 GPUs x 256 images

default_scope = 'mmpretrain'

default_hooks = dict(
    timer=dict(type='IterTimerHook', _scope_='mmpretrain'),
    logger=dict(type='LoggerHook', interval=100, _scope_='mmpretrain'),
    param_scheduler=dict(type='ParamSchedulerHook', _scope_='mmpretrain'),
    checkpoint=dict(type='CheckpointHook', interval=1, _scope_='mmpretrain'),
    sampler_seed=dict(type='DistSamplerSeedHook', _scope_='mmpretrain'),
    visualization=dict(type='VisualizationHook', enable=False, _scope_='mmpretrain'),
)

env_cfg = dict(
    cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl')
)

vis_backends = [dict(type='LocalVisBackend', _scope_='mmpretrain')]
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')], _scope_='mmpretrain')

log_level = 'INFO'
load_from = None
resume = False
