_base_ = './cascade-mask-rcnn_convnext-s-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py'

checkpoint_file = 'https://download.openmmlab.com/mmclassification/v0/convnext/downstream/convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634.pth'

model = dict(backbone=dict(arch='tiny', drop_path_rate=0.4, init_cfg=dict(checkpoint=checkpoint_file)))

optim_wrapper = dict(paramwise_cfg=dict(num_layers=6))
