_base_ = './coco.py'

data_root = 'data/VOC07-det'

specific_key_path = dict(ignore_flag='./objects/*/difficult')

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(1000, 600), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='Resize', scale=(1000, 600), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')),
]

train_dataloader = dict(
    _delete_=True,
    dataset=dict(
        type={{_base_.dataset_type}},
        specific_key_path=specific_key_path,
        data_root=data_root,
        ann_file='dsdl/set-train/train.yaml',
        data_prefix=dict(img_path='original'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=32),
        pipeline=train_pipeline,
    ),
)

val_dataloader = dict(
    _delete_=True,
    dataset=dict(
        type={{_base_.dataset_type}},
        specific_key_path=specific_key_path,
        data_root=data_root,
        ann_file='dsdl/set-test/test.yaml',
        data_prefix=dict(img_path='original'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='VOCMetric', metric='mAP', eval_mode='11points')
test_evaluator = val_evaluator

max_epochs = 12

train_cfg = dict(val_interval=3)

param_scheduler = [dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[9], gamma=0.1)]

optim_wrapper = dict(optimizer=dict(lr=0.01))
