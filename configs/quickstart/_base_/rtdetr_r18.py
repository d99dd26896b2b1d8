# RT-DETR from scratch for small pictures: ResNet-18-vd with half its channels, 128 channels in the encoder and in three
# decoder layers, strides 8 to 32.
num_levels = 3

model = dict(
    type='RTDETR',
    num_queries=100,
    num_feature_levels=num_levels,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='PResNet',
        depth=18,
        stem_channels=32,
        base_channels=32,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
    ),
    neck=dict(
        type='HybridEncoder',
        in_channels=[64, 128, 256],
        out_channels=128,
        encode_levels=(2,),
        encoder=dict(
            num_layers=1,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=128, num_heads=8, dropout=0.0),
                ffn_cfg=dict(embed_dims=128, feedforward_channels=256, ffn_drop=0.0, act_cfg=dict(type='GELU')),
            ),
        ),
        num_blocks=1,
        expand_ratio=0.5,
        decoder_channels=128,
    ),
    decoder=dict(
        num_layers=3,
        eval_idx=-1,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=128, num_heads=8, dropout=0.0),
            cross_attn_cfg=dict(embed_dims=128, num_heads=8, num_levels=num_levels, num_points=4),
            ffn_cfg=dict(embed_dims=128, feedforward_channels=256, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    bbox_head=dict(
        type='DINOHead',
        num_classes=80,
        embed_dims=128,
        sync_cls_avg_factor=True,
        loss_cls=dict(
            type='VarifocalLoss', use_sigmoid=True, alpha=0.75, gamma=2.0, loss_weight=1.0, detach_scale=True
        ),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    dn_cfg=dict(label_noise_scale=0.5, box_noise_scale=1.0, group_cfg=dict(dynamic=True, num_dn_queries=50)),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=100),
)
