_base_ = './rtdetr_r101vd_4xb4-72e_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='HGNetV2',
        arch='B5',
        out_indices=(1, 2, 3),
        frozen_stages=0,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
    )
)
