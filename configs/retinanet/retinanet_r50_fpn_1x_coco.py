_base_ = [
    '../_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
    './retinanet_tta.py',
]

# half of the rate of two-stage detectors: Sec. 4.1 of the paper
optim_wrapper = dict(optimizer=dict(lr=0.01))
