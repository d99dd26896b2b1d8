_base_ = './mask-rcnn_x50-32x4d_fpn_gn-ws-all_2x_coco.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://jhu/resnext101_32x4d_gn_ws')))
