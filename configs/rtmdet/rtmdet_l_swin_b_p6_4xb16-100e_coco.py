_base_ = './rtmdet_x_p6_4xb8-300e_coco.py'

checkpoint = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window12_384_22k.pth'
norm_cfg = dict(type='GN', num_groups=32)

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        pretrain_img_size=384,
        embed_dims=128,
        depths=[2, 2, 18, 2, 1],
        num_heads=[4, 8, 16, 32, 64],
        window_size=12,
        mlp_ratio=4,
        qkv_bias=True,
        qk_scale=None,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.3,
        patch_norm=True,
        out_indices=(1, 2, 3, 4),
        with_cp=True,
        convert_weights=True,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        strides=(4, 2, 2, 2, 2),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048], out_channels=256, num_csp_blocks=3, norm_cfg=norm_cfg),
    bbox_head=dict(in_channels=256, feat_channels=256, norm_cfg=norm_cfg),
)

train_dataloader = dict(batch_size=16)

max_epochs = 100
stage2_num_epochs = 10
base_lr = 0.001

train_cfg = dict(max_epochs=max_epochs, dynamic_intervals=[(90, 1)])

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min=5e-5,
        begin=max_epochs // 2,
        end=max_epochs,
        T_max=max_epochs // 2,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]

optim_wrapper = dict(optimizer=dict(lr=base_lr))

custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True, priority=49),
    dict(
        type='PipelineSwitchHook',
        switch_epoch=max_epochs - stage2_num_epochs,
        switch_pipeline=[
            dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomResize', scale=(1280, 1280), ratio_range=(0.1, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(1280, 1280)),
            dict(type='YOLOXHSVRandomAug'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='Pad', size=(1280, 1280), pad_val=dict(img=(114, 114, 114))),
            dict(type='PackDetInputs'),
        ],
    ),
]
