_base_ = '../rtdetr/rtdetr_r50vd-m_4xb4-72e_coco.py'

max_epochs = 84

# The last epochs see the pictures without distortion, zooming out and cropping.
train_pipeline_stage2 = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=(640, 640), keep_ratio=False),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs'),
]

train_cfg = dict(max_epochs=max_epochs)

custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0001, update_buffers=True, priority=49),
    dict(type='PipelineSwitchHook', switch_epoch=max_epochs - 2, switch_pipeline=train_pipeline_stage2),
]
