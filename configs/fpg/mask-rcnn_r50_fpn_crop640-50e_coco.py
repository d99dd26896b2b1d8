_base_ = './mask-rcnn_r50_fpg_crop640-50e_coco.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        num_outs=5,
        norm_cfg={{_base_.norm_cfg}},
    )
)
