_base_ = './yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py'

data_root = 'data/MOT20/'

model = dict(data_preprocessor=dict(batch_augments=[dict(type='BatchSyncRandomResize', random_size_range=(640, 1152))]))

img_scale = (1600, 896)

train_pipeline = [
    dict(type='Mosaic', img_scale=img_scale, pad_val=114.0, bbox_clip_border=True),
    dict(
        type='RandomAffine',
        scaling_ratio_range=(0.1, 2),
        border=(-img_scale[0] // 2, -img_scale[1] // 2),
        bbox_clip_border=True,
    ),
    dict(type='MixUp', img_scale=img_scale, ratio_range=(0.8, 1.6), pad_val=114.0, bbox_clip_border=True),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=img_scale, keep_ratio=True, clip_object_border=True),
    dict(type='Pad', size_divisor=32, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='Resize', scale=img_scale, keep_ratio=True),
    dict(type='Pad', size_divisor=32, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            datasets=[
                dict(
                    type={{_base_.dataset_type}},
                    data_root=data_root,
                    ann_file=ann_file,
                    data_prefix=dict(img=img),
                    filter_cfg=dict(filter_empty_gt=True, min_size=32),
                    metainfo=dict(classes=('pedestrian',)),
                    pipeline=[
                        dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
                        dict(type='LoadAnnotations', with_bbox=True),
                    ],
                )
                for data_root, ann_file, img in [
                    (data_root, 'annotations/train_cocoformat.json', 'train'),
                    ('data/crowdhuman', 'annotations/crowdhuman_train.json', 'train'),
                    ('data/crowdhuman', 'annotations/crowdhuman_val.json', 'val'),
                ]
            ]
        ),
        pipeline=train_pipeline,
    )
)

val_dataloader = dict(dataset=dict(data_root='data/MOT17', ann_file='annotations/train_cocoformat.json'))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file='data/MOT17/annotations/train_cocoformat.json')
test_evaluator = val_evaluator
