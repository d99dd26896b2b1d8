_base_ = [
    '../_base_/models/ssd300.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_2x.py',
    '../_base_/default_runtime.py',
]

model = dict(
    bbox_head=dict(
        anchor_generator=dict(type='LegacySSDAnchorGenerator'), bbox_coder=dict(type='LegacyDeltaXYWHBBoxCoder')
    )
)
