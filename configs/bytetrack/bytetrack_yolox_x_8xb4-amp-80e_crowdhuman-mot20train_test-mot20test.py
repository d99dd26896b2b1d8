_base_ = './bytetrack_yolox_x_8xb4-amp-80e_crowdhuman-mot17halftrain_test-mot17halfval.py'

model = dict(
    data_preprocessor=dict(batch_augments=[dict(type='BatchSyncRandomResize', random_size_range=(640, 1152))]),
    tracker=dict(weight_iou_with_det_scores=False, match_iou_thrs=dict(high=0.3)),
)

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
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
            dict(type='Resize', scale=img_scale, keep_ratio=True),
            dict(type='Pad', size_divisor=32, pad_val=dict(img=(114.0, 114.0, 114.0))),
            dict(type='LoadTrackAnnotations'),
        ],
    ),
    dict(type='PackTrackInputs'),
]

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            datasets=[
                dict(
                    type='CocoDataset',
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
                    ('data/MOT20', 'annotations/train_cocoformat.json', 'train'),
                    ('data/crowdhuman', 'annotations/crowdhuman_train.json', 'train'),
                    ('data/crowdhuman', 'annotations/crowdhuman_val.json', 'val'),
                ]
            ]
        ),
        pipeline=train_pipeline,
    )
)

val_dataloader = dict(dataset=dict(ann_file='annotations/train_cocoformat.json'))
test_dataloader = dict(dataset=dict(data_root='data/MOT20', ann_file='annotations/test_cocoformat.json'))

test_evaluator = dict(type='MOTChallengeMetrics', format_only=True, outfile_prefix='./mot_20_test_res')
