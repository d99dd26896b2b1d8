_base_ = './mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://resnest101'), stem_channels=128))
