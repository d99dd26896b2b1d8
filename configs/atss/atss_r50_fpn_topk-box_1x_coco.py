_base_ = './atss_r50_fpn_1x_coco.py'

# every candidate inside the box is positive, without the threshold
model = dict(train_cfg=dict(assigner=dict(type='TopkAssigner')))
