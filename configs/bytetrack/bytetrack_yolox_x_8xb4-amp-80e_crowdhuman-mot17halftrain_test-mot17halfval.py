_base_ = './yolox_x_8xb4-amp-80e_crowdhuman-mot17halftrain_test-mot17halfval.py'

dataset_type = 'MOTChallengeDataset'

model = dict(
    _delete_=True,
    type='ByteTrack',
    data_preprocessor=dict(
        type='TrackDataPreprocessor',
        pad_size_divisor=32,
        use_det_processor=True,
        batch_augments=[
            dict(type='BatchSyncRandomResize', random_size_range=(576, 1024), size_divisor=32, interval=10)
        ],
    ),
    detector=dict(
        type='YOLOX',
        backbone=dict(
            type='CSPDarknet',
            deepen_factor=1.33,
            widen_factor=1.25,
            out_indices=(2, 3, 4),
            use_depthwise=False,
            spp_kernal_sizes=(5, 9, 13),
            norm_cfg=dict(type='BN', momentum=0.03, eps=0.001),
            act_cfg=dict(type='Swish'),
        ),
        neck=dict(
            type='YOLOXPAFPN',
            in_channels=[320, 640, 1280],
            out_channels=320,
            num_csp_blocks=4,
            use_depthwise=False,
            upsample_cfg=dict(scale_factor=2, mode='nearest'),
            norm_cfg=dict(type='BN', momentum=0.03, eps=0.001),
            act_cfg=dict(type='Swish'),
        ),
        bbox_head=dict(
            type='YOLOXHead',
            num_classes=1,
            in_channels=320,
            feat_channels=320,
            stacked_convs=2,
            strides=(8, 16, 32),
            use_depthwise=False,
            norm_cfg=dict(type='BN', momentum=0.03, eps=0.001),
            act_cfg=dict(type='Swish'),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0),
            loss_bbox=dict(type='IoULoss', mode='square', eps=1e-16, reduction='sum', loss_weight=5.0),
            loss_obj=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0),
            loss_l1=dict(type='L1Loss', reduction='sum', loss_weight=1.0),
        ),
        train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
        test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.7)),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/yolox/yolox_x_8x8_300e_coco/yolox_x_8x8_300e_coco_20211126_140254-1ef88d67.pth',
        ),
    ),
    tracker=dict(
        type='ByteTracker',
        motion=dict(type='KalmanFilter'),
        obj_score_thrs=dict(high=0.6, low=0.1),
        init_track_thr=0.7,
        weight_iou_with_det_scores=True,
        match_iou_thrs=dict(high=0.1, low=0.5, tentative=0.3),
        num_frames_retain=30,
    ),
)

test_pipeline = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
            dict(type='Resize', scale=(1440, 800), keep_ratio=True),
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
                    ('data/MOT17', 'annotations/half-train_cocoformat.json', 'train'),
                    ('data/crowdhuman', 'annotations/crowdhuman_train.json', 'train'),
                    ('data/crowdhuman', 'annotations/crowdhuman_val.json', 'val'),
                ]
            ]
        )
    )
)

val_dataloader = dict(
    pin_memory=True,
    sampler=dict(_delete_=True, type='TrackImgSampler'),
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root={{_base_.data_root}},
        ann_file='annotations/half-val_cocoformat.json',
        data_prefix=dict(img_path='train'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True,
    type='MOTChallengeMetric',
    metric=['HOTA', 'CLEAR', 'Identity'],
    postprocess_tracklet_cfg=[dict(type='InterpolateTracklets', min_num_frames=5, max_num_frames=20)],
)
test_evaluator = val_evaluator

train_cfg = dict(val_begin=70)
val_cfg = dict(fp16=True)
test_cfg = dict(fp16=True)

auto_scale_lr = dict(base_batch_size=32)  # 8 GPUs x 4 images

default_hooks = dict(checkpoint=dict(max_keep_ckpts=10), visualization=dict(type='TrackVisualizationHook', draw=False))

visualizer = dict(type='TrackLocalVisualizer')
