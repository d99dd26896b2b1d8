_base_ = './mask-rcnn_r50-swav-pre_fpn_1x_coco.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='./mocov2_r50_800ep_pretrain.pth')))
