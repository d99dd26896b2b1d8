_base_ = './reppoints-minmax_r50_fpn-gn_head-gn_1x_coco.py'

model = dict(bbox_head=dict(use_grid_points=True))
