_base_ = [
    '../_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

dataset_type = 'DSDLDetDataset'
data_root = 'data/OpenImages'
backend_args = dict(backend='petrel', path_mapping={'data/': 's3://open_dataset_original/'})

specific_key_path = dict(
    image_level_labels='./image_labels/*/label', Label='./objects/*/label', is_group_of='./objects/*/isgroupof'
)

model = dict(roi_head=dict(bbox_head=dict(num_classes=601)))

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(1024, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale=(1024, 800), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances', 'image_level_labels'),
    ),
]

train_dataloader = dict(
    sampler=dict(type='ClassAwareSampler', num_sample_class=1),
    dataset=dict(
        type=dataset_type,
        with_imagelevel_label=True,
        with_hierarchy=True,
        specific_key_path=specific_key_path,
        data_root=data_root,
        ann_file='dsdl/set-train/train.yaml',
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=32),
        pipeline=train_pipeline,
    ),
)

val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        with_imagelevel_label=True,
        with_hierarchy=True,
        specific_key_path=specific_key_path,
        data_root=data_root,
        ann_file='dsdl/set-val/val.yaml',
        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(type='OpenImagesMetric', iou_thrs=0.5, ioa_thrs=0.5, use_group_of=True, get_supercategory=True)
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=3)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[1, 2], gamma=0.1),
]

optim_wrapper = dict(optimizer=dict(lr=0.01))

default_hooks = dict(logger=dict(interval=1000))
