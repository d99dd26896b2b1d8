_base_ = ['../_base_/models/faster-rcnn_r50_fpn.py', '../common/lsj-200e_coco-detection.py']

model = dict(data_preprocessor=dict(batch_augments={{_base_.batch_augments}}))

optim_wrapper = dict(optimizer=dict(lr=0.08))
