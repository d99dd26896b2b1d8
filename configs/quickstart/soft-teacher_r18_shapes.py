# Soft Teacher on the shapes, where 30 of the 300 pictures have labels: Faster R-CNN with a ResNet-18 of half the channels.
# Both networks start from the middle of faster-rcnn_r18_shapes_10percent.py, so that there is something to be taught.
_base_ = ['_base_/faster_rcnn_r18.py', '_base_/shapes.py', '_base_/schedule.py']

detector = _base_.model
detector.backbone.base_channels = 32
detector.neck.in_channels = [32, 64, 128, 256]
detector.roi_head.bbox_head.num_classes = 5

model = dict(
    _delete_=True,
    type='SoftTeacher',
    detector=detector,
    data_preprocessor=dict(type='MultiBranchDataPreprocessor', data_preprocessor=detector.data_preprocessor),
    semi_train_cfg=dict(
        freeze_teacher=True,
        sup_weight=1.0,
        unsup_weight=1.0,
        pseudo_label_initial_score_thr=0.5,
        rpn_pseudo_thr=0.7,
        cls_pseudo_thr=0.7,
        reg_pseudo_thr=0.03,
        jitter_times=10,
        jitter_scale=0.06,
        min_pseudo_bbox_wh=(0.01, 0.01),
    ),
    semi_test_cfg=dict(predict_on='teacher'),
)

branch_field = ['sup', 'unsup_teacher', 'unsup_student']
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'homography_matrix')
flips = dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal'])
pack = dict(type='PackDetInputs', meta_keys=meta_keys)

sup_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    flips,
    dict(type='MultiBranch', branch_field=branch_field, sup=dict(type='PackDetInputs')),
]
weak_pipeline = [dict(type='Resize', scale_factor=1.0), flips, pack]
# No rotation: upright boxes around turned ones are too large, which a student of few pictures learns.
strong_pipeline = [
    dict(type='RandomResize', scale=[(140, 140), (220, 220)], keep_ratio=True),
    flips,
    dict(
        type='RandAugment',
        aug_space=[[dict(type='Brightness')], [dict(type='Contrast')], [dict(type='Color')]],
        aug_num=1,
    ),
    pack,
]
unsup_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadEmptyAnnotations'),
    dict(type='MultiBranch', branch_field=branch_field, unsup_teacher=weak_pipeline, unsup_student=strong_pipeline),
]

labelled = dict(_base_.train_dataloader.dataset, indices=30, pipeline=sup_pipeline)
unlabelled = dict(_base_.train_dataloader.dataset, indices=list(range(30, 300)), pipeline=unsup_pipeline)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='GroupMultiSourceSampler', batch_size=8, source_ratio=[1, 1]),
    dataset=dict(_delete_=True, type='ConcatDataset', datasets=[labelled, unlabelled]),
)

load_from = 'work_dirs/faster-rcnn_r18_shapes_10percent/iter_600.pth'

max_iters = 600
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=100)
val_cfg = dict(type='TeacherStudentValLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=100, by_epoch=False))
log_processor = dict(by_epoch=False)
# A short run needs a quick teacher; it never trains, so that its batch norms must follow too.
custom_hooks = [dict(type='MeanTeacherHook', momentum=0.01, skip_buffer=False)]
