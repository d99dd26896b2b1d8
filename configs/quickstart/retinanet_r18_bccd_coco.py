# Blood cells through COCO JSON, evaluated with the COCO metric.
_base_ = ['_base_/retinanet_r18.py', '_base_/bccd_coco.py', '_base_/schedule_8e.py']

model = dict(bbox_head=dict(num_classes=3))
