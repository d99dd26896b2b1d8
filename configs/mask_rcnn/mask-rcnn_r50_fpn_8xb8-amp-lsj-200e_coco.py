_base_ = ['../_base_/models/mask-rcnn_r50_fpn.py', '../common/lsj-200e_coco-instance.py']

model = dict(data_preprocessor=dict(batch_augments={{_base_.batch_augments}}))
