_base_ = '../lwdetr/lwdetr_small_8xb4-60e_coco.py'

model = dict(
    data_preprocessor=dict(
        pad_size_divisor=56,
        batch_augments=[dict(type='BatchSyncRandomResize', random_size_range=(392, 728), size_divisor=56, interval=1)],
    ),
    backbone=dict(
        _delete_=True,
        type='DINOv2',
        embed_dims=384,
        depth=12,
        num_heads=6,
        patch_size=14,
        pretrain_size=518,
        out_indices=(1, 4, 7, 10),
        window_blocks=(0, 1, 3, 4, 6, 7, 9, 10),
        num_windows=4,
    ),
    neck=dict(in_channels=[384] * 4, norm_cfg=dict(type='LN2d', eps=1e-5)),
)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=(560, 560), keep_ratio=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='Resize', scale=(560, 560), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(num_layers=12))
auto_scale_lr = dict(base_batch_size=16)
