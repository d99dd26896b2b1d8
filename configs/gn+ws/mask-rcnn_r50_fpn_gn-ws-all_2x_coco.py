_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_2x.py',
    '../_base_/default_runtime.py',
]

norm_cfg = dict(type='GN', num_groups=32, requires_grad=True)
conv_cfg = dict(type='ConvWS')

model = dict(
    backbone=dict(norm_cfg=norm_cfg, init_cfg=dict(checkpoint='open-mmlab://jhu/resnet50_gn_ws'), conv_cfg=conv_cfg),
    neck=dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, conv_cfg=conv_cfg, norm_cfg=norm_cfg),
        mask_head=dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg),
    ),
)
