_base_ = './rfdetr_base_8xb2-60e_coco.py'

model = dict(
    type='RFDETRSeg',
    num_queries=200,
    data_preprocessor=dict(
        pad_mask=True,
        pad_size_divisor=24,
        batch_augments=[dict(type='BatchSyncRandomResize', random_size_range=(336, 528), size_divisor=24, interval=1)],
    ),
    backbone=dict(
        patch_size=12,
        pretrain_size=432,
        num_windows=2,
        out_indices=(2, 5, 8, 11),
        window_blocks=(0, 1, 2, 4, 5, 7, 8, 10, 11),
    ),
    decoder=dict(num_layers=4),
    bbox_head=dict(type='RFDETRSegHead', mask_stride=4, point_sample_ratio=16),
    train_cfg=dict(
        assigner=dict(
            match_costs=[
                dict(type='FocalLossCost', weight=2.0, eps=1e-8),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
                dict(type='CrossEntropyLossCost', weight=5.0),
                dict(type='DiceCost', pred_act=True, eps=1.0, weight=5.0),
            ]
        )
    ),
    test_cfg=dict(max_per_img=200, mask_thr_binary=0.5),
)

size = (432, 432)
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=size, keep_ratio=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='Resize', scale=size, keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
