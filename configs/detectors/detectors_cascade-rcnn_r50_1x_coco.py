_base_ = './cascade-rcnn_r50-rfp_1x_coco.py'

model = dict(
    backbone=dict(sac=dict(type='SAC', use_deform=True), stage_with_sac=(False, True, True, True)),
    neck=dict(rfp_backbone=dict(sac=dict(type='SAC', use_deform=True), stage_with_sac=(False, True, True, True))),
)
