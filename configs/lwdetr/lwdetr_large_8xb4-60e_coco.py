_base_ = './lwdetr_medium_8xb4-60e_coco.py'

# Two levels, of stride 8 and 32, and a wider decoder.
model = dict(
    num_feature_levels=2,
    neck=dict(out_channels=384, scales=(2.0, 0.5)),
    decoder=dict(
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=384, num_heads=12),
            cross_attn_cfg=dict(embed_dims=384, num_heads=24, num_levels=2, num_points=4),
            ffn_cfg=dict(embed_dims=384),
        )
    ),
    bbox_head=dict(embed_dims=384),
)
