_base_ = '../fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py'

# caffe weights expect BGR, centred and not scaled
img_norm_cfg = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadProposals', num_max_proposals=300),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', img_scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Normalize', mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'proposals', 'gt_bboxes', 'gt_labels']),
]

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadProposals', num_max_proposals=None),
    dict(
        type='MultiScaleFlipAug',
        img_scale=(1333, 800),
        flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True),
            dict(type='RandomFlip'),
            dict(type='Normalize', mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False),
            dict(type='Pad', size_divisor=32),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img', 'proposals']),
        ],
    ),
]

data = dict(
    train=dict(proposal_file='data/coco/proposals/ga_rpn_r50_fpn_1x_train2017.pkl', pipeline=train_pipeline),
    val=dict(proposal_file='data/coco/proposals/ga_rpn_r50_fpn_1x_val2017.pkl', pipeline=test_pipeline),
    test=dict(proposal_file='data/coco/proposals/ga_rpn_r50_fpn_1x_val2017.pkl', pipeline=test_pipeline),
)

optimizer_config = dict(_delete_=True, grad_clip=dict(max_norm=35, norm_type=2))

model = dict(
    backbone=dict(
        norm_cfg=dict(requires_grad=False),
        style='caffe',
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet50_caffe'),
    ),
    roi_head=dict(bbox_head=dict(bbox_coder=dict(target_stds=[0.05, 0.05, 0.1, 0.1]))),
    train_cfg=dict(rcnn=dict(assigner=dict(pos_iou_thr=0.6, neg_iou_thr=0.6, min_pos_iou=0.6), sampler=dict(num=256))),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
)
