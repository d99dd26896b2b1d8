_base_ = './retinaface_r50_fpn-ssh_80e_widerface.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 6),
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2'),
    ),
    # a quarter of the channels, for a detector of some three million parameters
    neck=[
        dict(type='FPN', in_channels=[24, 32, 96, 320], out_channels=64, add_extra_convs='on_input', num_outs=5),
        dict(type='SSH', num_scales=5, in_channels=[64] * 5, out_channels=[64] * 5),
    ],
    bbox_head=dict(in_channels=64),
)
