_base_ = './retinaface_r50_fpn-ssh_80e_widerface.py'

model = dict(backbone=dict(depth=152, init_cfg=dict(checkpoint='torchvision://resnet152')))
