# ATSS in the place of RetinaNet, all else as in retinanet_r18_bccd_coco.py.
_base_ = ['_base_/atss_r18.py', '_base_/bccd_coco.py', '_base_/schedule_8e.py']

model = dict(bbox_head=dict(num_classes=3))
