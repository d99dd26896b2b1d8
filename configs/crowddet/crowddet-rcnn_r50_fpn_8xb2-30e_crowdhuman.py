_base_ = ['../_base_/models/faster-rcnn_r50_fpn.py', '../_base_/default_runtime.py']

dataset_type = 'CrowdHumanDataset'
data_root = 'data/CrowdHuman/'
backend_args = None

model = dict(
    type='CrowdDet',
    data_preprocessor=dict(
        # these weights expect BGR, centred and scaled
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
        pad_size_divisor=64,
        batch_augments=[dict(type='BatchResize', scale=(1400, 800), pad_size_divisor=64)],
    ),
    neck=dict(upsample_cfg=dict(mode='bilinear', align_corners=False)),
    rpn_head=dict(
        anchor_generator=dict(ratios=[1.0, 2.0, 3.0], centers=[(8, 8), (8, 8), (8, 8), (8, 8), (8, 8)]),
        bbox_coder=dict(clip_border=False),
        loss_cls=dict(_delete_=True, type='CrossEntropyLoss', loss_weight=1.0),
    ),
    roi_head=dict(
        type='MultiInstanceRoIHead',
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=-1, aligned=True, use_torchvision=True)),
        bbox_head=dict(
            type='MultiInstanceBBoxHead',
            with_refine=False,
            num_shared_fcs=2,
            num_classes=1,
            loss_cls=dict(reduction='none'),
            loss_bbox=dict(type='SmoothL1Loss', reduction='none'),
        ),
    ),
    train_cfg=dict(
        rpn=dict(assigner=dict(neg_iou_thr=(0.3, 0.7))),
        rpn_proposal=dict(nms_pre=2400, max_per_img=2000, min_bbox_size=2),
        rcnn=dict(
            assigner=dict(type='MultiInstanceAssigner', min_pos_iou=0.3),
            sampler=dict(type='MultiInsRandomSampler', pos_fraction=0.5, add_gt_as_proposals=False),
        ),
    ),
    test_cfg=dict(rpn=dict(nms_pre=1200, min_bbox_size=2), rcnn=dict(score_thr=0.01, max_per_img=500)),
)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'flip', 'flip_direction')),
]

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale=(1400, 800), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=None,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotation_train.odgt',
        data_prefix=dict(img='Images/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)

val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotation_val.odgt',
        data_prefix=dict(img='Images/'),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CrowdHumanMetric',
    ann_file=data_root + 'annotation_val.odgt',
    metric=['AP', 'MR', 'JI'],
    backend_args=backend_args,
)
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=800),
    dict(type='MultiStepLR', begin=0, end=30, by_epoch=True, milestones=[24, 27], gamma=0.1),
]

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.002, momentum=0.9, weight_decay=0.0001))

auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2 images
