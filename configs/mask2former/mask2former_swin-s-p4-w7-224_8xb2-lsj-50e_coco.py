_base_ = './mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_small_patch4_window7_224.pth'
depths = [2, 2, 18, 2]

custom_keys = {
    'backbone': dict(lr_mult=0.1, decay_mult=1.0),
    'backbone.patch_embed.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'absolute_pos_embed': dict(lr_mult=0.1, decay_mult=0.0),
    'relative_position_bias_table': dict(lr_mult=0.1, decay_mult=0.0),
    'query_embed': dict(lr_mult=1.0, decay_mult=0.0),
    'query_feat': dict(lr_mult=1.0, decay_mult=0.0),
    'level_embed': dict(lr_mult=1.0, decay_mult=0.0),
    'backbone.stages.0.blocks.0.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.0.blocks.1.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.1.blocks.0.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.1.blocks.1.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.0.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.1.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.2.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.3.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.4.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.5.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.3.blocks.0.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.3.blocks.1.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.0.downsample.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.1.downsample.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.downsample.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.6.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.7.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.8.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.9.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.10.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.11.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.12.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.13.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.14.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.15.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.16.norm': dict(lr_mult=0.1, decay_mult=0.0),
    'backbone.stages.2.blocks.17.norm': dict(lr_mult=0.1, decay_mult=0.0),
}

model = dict(backbone=dict(depths=depths, init_cfg=dict(checkpoint=pretrained)))

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=custom_keys))
