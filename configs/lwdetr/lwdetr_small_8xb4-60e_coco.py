_base_ = './lwdetr_tiny_8xb4-60e_coco.py'

model = dict(
    num_queries=300,
    backbone=dict(depth=10, out_indices=(2, 4, 5, 9), window_blocks=(0, 1, 3, 6, 7, 9)),
    neck=dict(in_channels=[192] * 4),
    test_cfg=dict(max_per_img=300),
)
