_base_ = './lwdetr_small_8xb4-60e_coco.py'

model = dict(backbone=dict(embed_dims=384), neck=dict(in_channels=[384] * 4))
