# Faster R-CNN on blood cells.
_base_ = ['_base_/faster_rcnn_r18.py', '_base_/bccd_voc.py', '_base_/schedule_8e.py']

model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
