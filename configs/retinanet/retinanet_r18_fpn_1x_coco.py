_base_ = './retinanet_r18_fpn_1xb8-1x_coco.py'

train_dataloader = dict(batch_size=2)

optim_wrapper = dict(optimizer=dict(lr=0.01))
