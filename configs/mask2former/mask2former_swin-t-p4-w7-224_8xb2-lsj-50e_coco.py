_base_ = './mask2former_r50_8xb2-lsj-50e_coco.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
depths = [2, 2, 6, 2]
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
        embed_dims=96,
        depths=depths,
        num_heads=[3, 6, 12, 24],
        window_size=7,
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
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
    panoptic_head=dict(in_channels=[96, 192, 384, 768]),
)

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=custom_keys))
