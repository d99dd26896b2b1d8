_base_ = './atss_r50_fpn_1x_coco.py'

model = dict(
    # the anchors of RetinaNet
    bbox_head=dict(anchor_generator=dict(octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0])),
    train_cfg=dict(assigner=dict(topk=81)),  # nine locations of nine anchors each
)
