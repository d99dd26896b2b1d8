_base_ = './soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'

labeled_dataset = dict(
    type={{_base_.dataset_type}},
    data_root={{_base_.data_root}},
    ann_file='semi_anns/instances_train2017.1@2.json',
    data_prefix=dict(img='train2017/'),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=[
        dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomResize', scale=[(1333, 400), (1333, 1200)], keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(
            type='RandAugment',
            aug_space=[
                [dict(type='ColorTransform')],
                [dict(type='AutoContrast')],
                [dict(type='Equalize')],
                [dict(type='Sharpness')],
                [dict(type='Posterize')],
                [dict(type='Solarize')],
                [dict(type='Color')],
                [dict(type='Contrast')],
                [dict(type='Brightness')],
            ],
            aug_num=1,
        ),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(0.01, 0.01)),
        dict(
            type='MultiBranch', branch_field=['sup', 'unsup_teacher', 'unsup_student'], sup=dict(type='PackDetInputs')
        ),
    ],
    backend_args={{_base_.backend_args}},
)

unlabeled_dataset = dict(
    type={{_base_.dataset_type}},
    data_root={{_base_.data_root}},
    ann_file='semi_anns/instances_train2017.1@2-unlabeled.json',
    data_prefix=dict(img='train2017/'),
    filter_cfg=dict(filter_empty_gt=False),
    pipeline=[
        dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
        dict(type='LoadEmptyAnnotations'),
        dict(
            type='MultiBranch',
            branch_field=['sup', 'unsup_teacher', 'unsup_student'],
            unsup_teacher=[
                dict(type='RandomResize', scale=[(1333, 400), (1333, 1200)], keep_ratio=True),
                dict(type='RandomFlip', prob=0.5),
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        'img_id',
                        'img_path',
                        'ori_shape',
                        'img_shape',
                        'scale_factor',
                        'flip',
                        'flip_direction',
                        'homography_matrix',
                    ),
                ),
            ],
            unsup_student=[
                dict(type='RandomResize', scale=[(1333, 400), (1333, 1200)], keep_ratio=True),
                dict(type='RandomFlip', prob=0.5),
                dict(
                    type='RandomOrder',
                    transforms=[
                        dict(
                            type='RandAugment',
                            aug_space=[
                                [dict(type='ColorTransform')],
                                [dict(type='AutoContrast')],
                                [dict(type='Equalize')],
                                [dict(type='Sharpness')],
                                [dict(type='Posterize')],
                                [dict(type='Solarize')],
                                [dict(type='Color')],
                                [dict(type='Contrast')],
                                [dict(type='Brightness')],
                            ],
                            aug_num=1,
                        ),
                        dict(
                            type='RandAugment',
                            aug_space=[
                                [dict(type='Rotate')],
                                [dict(type='ShearX')],
                                [dict(type='ShearY')],
                                [dict(type='TranslateX')],
                                [dict(type='TranslateY')],
                            ],
                            aug_num=1,
                        ),
                    ],
                ),
                dict(type='RandomErasing', n_patches=(1, 5), ratio=(0, 0.2)),
                dict(type='FilterAnnotations', min_gt_bbox_wh=(0.01, 0.01)),
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        'img_id',
                        'img_path',
                        'ori_shape',
                        'img_shape',
                        'scale_factor',
                        'flip',
                        'flip_direction',
                        'homography_matrix',
                    ),
                ),
            ],
        ),
    ],
    backend_args={{_base_.backend_args}},
)

train_dataloader = dict(dataset=dict(datasets=[labeled_dataset, unlabeled_dataset]))
