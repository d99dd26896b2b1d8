# Blood cells through the VOC dataset class, evaluated with the VOC metric.
_base_ = ['_base_/retinanet_r18.py', '_base_/bccd_voc.py', '_base_/schedule_8e.py']

model = dict(bbox_head=dict(num_classes=3))
