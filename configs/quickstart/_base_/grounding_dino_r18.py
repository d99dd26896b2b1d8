# Grounding DINO from scratch for small pictures and short texts: dino_r18.py, with a BERT as narrow as it is.
_base_ = './dino_r18.py'

model = dict(
    type='GroundingDINO',
    language_model=dict(
        type='BertModel',
        name='data/shapes_texts/bert',
        max_tokens=64,
        pad_to_max=False,
        use_sub_sentence_represent=True,
        special_tokens_list=['[CLS]', '[SEP]', '.', '?'],
        add_pooling_layer=False,
    ),
    encoder=dict(
        text_layer_cfg=dict(
            self_attn_cfg=dict(num_heads=4, embed_dims=128, dropout=0.0),
            ffn_cfg=dict(embed_dims=128, feedforward_channels=256, ffn_drop=0.0),
        ),
        fusion_layer_cfg=dict(v_dim=128, l_dim=128, embed_dim=128, num_heads=4, init_values=0.1),
    ),
    decoder=dict(layer_cfg=dict(cross_attn_text_cfg=dict(embed_dims=128, num_heads=8, dropout=0.0))),
    bbox_head=dict(type='GroundingDINOHead', contrastive_cfg=dict(max_text_len=64, log_scale='auto', bias=True)),
    train_cfg=dict(
        assigner=dict(
            match_costs=[
                dict(type='BinaryFocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ]
        )
    ),
)
