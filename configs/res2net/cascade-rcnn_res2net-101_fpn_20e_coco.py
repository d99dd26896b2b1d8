_base_ = [
    '../_base_/models/cascade-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='Res2Net',
        depth=101,
        init_cfg=dict(checkpoint='open-mmlab://res2net101_v1d_26w_4s'),
        scales=4,
        base_width=26,
    )
)
