_base_ = './grounding_dino_swin-t_pretrain_obj365_goldg_cap4m.py'

model = dict(
    backbone=dict(
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        drop_path_rate=0.3,
        pretrain_img_size=384,
    ),
    neck=dict(in_channels=[256, 512, 1024]),
)
