# RF-DETR from scratch for small pictures: six blocks of DINOv2's ViT with 128 channels and patches of 8 pixels, of which
# every third block sees the whole picture, two decoder layers, five groups of queries.
model = dict(
    type='LWDETR',
    num_queries=50,
    num_groups=5,
    num_feature_levels=1,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=16,
    ),
    backbone=dict(
        type='DINOv2',
        embed_dims=128,
        depth=6,
        num_heads=4,
        patch_size=8,
        pretrain_size=192,
        out_indices=(1, 3, 5),
        window_blocks=(0, 1, 3, 4),
        num_windows=2,
    ),
    neck=dict(
        type='C2fProjector',
        in_channels=[128] * 3,
        out_channels=128,
        scales=(1.0,),
        num_blocks=2,
        norm_cfg=dict(type='LN2d', eps=1e-5),
    ),
    decoder=dict(
        num_layers=2,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=128, num_heads=4, dropout=0.0),
            cross_attn_cfg=dict(embed_dims=128, num_heads=8, num_levels=1, num_points=4, dropout=0.0),
            ffn_cfg=dict(embed_dims=128, feedforward_channels=512, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    bbox_head=dict(
        type='LWDETRHead',
        num_classes=80,
        embed_dims=128,
        sync_cls_avg_factor=True,
        loss_cls=dict(type='IoUAwareBCELoss', alpha=0.25, gamma=2.0, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0, eps=1e-8),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=50),
)
