_base_ = './lsj-100e_coco-detection.py'

# 25 epochs of eight passes
train_dataloader = dict(dataset=dict(times=8))
