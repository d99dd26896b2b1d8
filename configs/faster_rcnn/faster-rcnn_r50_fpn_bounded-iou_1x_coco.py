_base_ = './faster-rcnn_r50_fpn_iou_1x_coco.py'

model = dict(roi_head=dict(bbox_head=dict(loss_bbox=dict(type='BoundedIoULoss'))))
