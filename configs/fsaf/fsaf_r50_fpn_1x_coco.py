_base_ = '../retinanet/retinanet_r50_fpn_1x_coco.py'

model = dict(
    type='FSAF',
    bbox_head=dict(
        type='FSAFHead',
        # a square of one stride stands for the location
        anchor_generator=dict(octave_base_scale=1, scales_per_octave=1, ratios=[1.0]),
        bbox_coder=dict(_delete_=True, type='TBLRBBoxCoder', normalizer=4.0),
        loss_cls=dict(reduction='none'),
        loss_bbox=dict(type='IoULoss', eps=1e-6, reduction='none'),
        reg_decoded_bbox=True,
    ),
    train_cfg=dict(
        # the inner fifth of the projected box is positive: Sec. 3.2 of the paper
        assigner=dict(_delete_=True, type='CenterRegionAssigner', pos_scale=0.2, neg_scale=0.2, min_pos_iof=0.01)
    ),
)

optim_wrapper = dict(clip_grad=dict(max_norm=10, norm_type=2))
