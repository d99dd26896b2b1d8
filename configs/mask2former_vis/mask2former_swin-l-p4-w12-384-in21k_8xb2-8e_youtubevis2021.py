_base_ = './mask2former_r50_8xb2-8e_youtubevis2021.py'

depths = [2, 2, 18, 2]
backbone_norm_multi = dict(lr_mult=0.1, decay_mult=0.0)
backbone_embed_multi = dict(lr_mult=0.1, decay_mult=0.0)

custom_keys = {
    'backbone': dict(lr_mult=0.1, decay_mult=1.0),
    'backbone.patch_embed.norm': backbone_norm_multi,
    'backbone.norm': backbone_norm_multi,
    'absolute_pos_embed': backbone_norm_multi,
    'relative_position_bias_table': backbone_norm_multi,
    'query_embed': dict(lr_mult=1.0, decay_mult=0.0),
    'query_feat': dict(lr_mult=1.0, decay_mult=0.0),
    'level_embed': dict(lr_mult=1.0, decay_mult=0.0),
    'backbone.stages.0.blocks.0.norm': backbone_norm_multi,
    'backbone.stages.0.blocks.1.norm': backbone_norm_multi,
    'backbone.stages.1.blocks.0.norm': backbone_norm_multi,
    'backbone.stages.1.blocks.1.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.0.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.1.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.2.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.3.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.4.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.5.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.6.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.7.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.8.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.9.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.10.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.11.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.12.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.13.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.14.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.15.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.16.norm': backbone_norm_multi,
    'backbone.stages.2.blocks.17.norm': backbone_norm_multi,
    'backbone.stages.3.blocks.0.norm': backbone_norm_multi,
    'backbone.stages.3.blocks.1.norm': backbone_norm_multi,
    'backbone.stages.0.downsample.norm': backbone_norm_multi,
    'backbone.stages.1.downsample.norm': backbone_norm_multi,
    'backbone.stages.2.downsample.norm': backbone_norm_multi,
}

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        pretrain_img_size=384,
        embed_dims=192,
        depths=depths,
        num_heads=[6, 12, 24, 48],
        window_size=12,
        mlp_ratio=4,
        qkv_bias=True,
        qk_scale=None,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.3,
        patch_norm=True,
        out_indices=(0, 1, 2, 3),
        with_cp=False,
        convert_weights=True,
        frozen_stages=-1,
        init_cfg=None,
    ),
    track_head=dict(in_channels=[192, 384, 768, 1536], num_queries=200),
    init_cfg=dict(
        checkpoint='https://download.openmmlab.com/mmdetection/v3.0/mask2former/mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic/mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic_20220407_104949-82f8d28d.pth'
    ),
)

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=custom_keys))
