_base_ = './atss_r50_fpn_1x_coco.py'

# positives by the spatial and scale constraint of FCOS
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='SpaceScaleAssigner')))
