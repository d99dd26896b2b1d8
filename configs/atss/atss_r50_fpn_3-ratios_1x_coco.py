_base_ = './atss_r50_fpn_1x_coco.py'

model = dict(
    bbox_head=dict(anchor_generator=dict(ratios=[0.5, 1.0, 2.0])),
    train_cfg=dict(assigner=dict(topk=27)),  # nine locations of three anchors each
)
