# Small pictures of coloured shapes, made by: python tools/dataset_converters/shapes.py --texts
# Trained on ODVG files, with the names of some classes that are not in the picture; tested on the names of all.
_base_ = './shapes.py'

data_root = 'data/shapes_texts/'
bert = data_root + 'bert'
metainfo = dict(
    _delete_=True,
    classes=tuple(
        f'{colour} {shape}'
        for colour in ('red', 'yellow', 'green', 'blue')
        for shape in ('circle', 'square', 'triangle', 'star', 'cross')
    ),
)
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'text', 'custom_entities')

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='RandomSamplingNegPos', tokenizer_name=bert, num_sample_negative=20, max_tokens=64),
    dict(type='PackDetInputs', meta_keys=(*meta_keys, 'tokens_positive', 'dataset_mode')),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ODVGDataset',
        data_root=data_root,
        ann_file='annotations/train_od.json',
        label_map_file='annotations/label_map.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=1),
        return_classes=True,
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, return_classes=True, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
