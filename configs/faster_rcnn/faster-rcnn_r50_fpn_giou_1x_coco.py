_base_ = './faster-rcnn_r50_fpn_1x_coco.py'

# an IoU loss is smaller than L1 on deltas
model = dict(roi_head=dict(bbox_head=dict(loss_bbox=dict(type='GIoULoss', loss_weight=10.0), reg_decoded_bbox=True)))
