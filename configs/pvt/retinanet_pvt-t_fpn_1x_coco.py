_base_ = './retinanet_pvt-m_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        num_layers=[2, 2, 2, 2],
        init_cfg=dict(checkpoint='https://github.com/whai362/PVT/releases/download/v2/pvt_tiny.pth'),
    )
)
