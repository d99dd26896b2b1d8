_base_ = './retinanet_pvtv2-b0_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        embed_dims=64,
        num_layers=[3, 8, 27, 3],
        init_cfg=dict(checkpoint='https://github.com/whai362/PVT/releases/download/v2/pvt_v2_b4.pth'),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)

train_dataloader = dict(batch_size=1, num_workers=1)

optim_wrapper = dict(optimizer=dict(lr=7.142857142857143e-5))

auto_scale_lr = dict(base_batch_size=8)  # 8 GPUs x 1 image
