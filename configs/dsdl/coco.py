_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

dataset_type = 'DSDLDetDataset'
data_root = 'data/COCO2017'

specific_key_path = dict(ignore_flag='./annotations/*/iscrowd')

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')),
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file='dsdl/set-train/train.yaml',
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=32),
        pipeline={{_base_.train_pipeline}},
        specific_key_path=specific_key_path,
        data_prefix=dict(img_path='original'),
    )
)

val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file='dsdl/set-val/val.yaml',
        test_mode=True,
        pipeline=test_pipeline,
        specific_key_path=specific_key_path,
        data_prefix=dict(img_path='original'),
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox')
test_evaluator = val_evaluator
