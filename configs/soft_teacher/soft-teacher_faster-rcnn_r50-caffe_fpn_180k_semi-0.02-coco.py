_base_ = './soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'

labeled_dataset = dict(
    type={{_base_.dataset_type}},
    data_root={{_base_.data_root}},
    ann_file='semi_anns/instances_train2017.1@2.json',
    data_prefix=dict(img='train2017/'),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline={{_base_.sup_pipeline}},
    backend_args={{_base_.backend_args}},
)

unlabeled_dataset = dict(
    type={{_base_.dataset_type}},
    data_root={{_base_.data_root}},
    ann_file='semi_anns/instances_train2017.1@2-unlabeled.json',
    data_prefix=dict(img='train2017/'),
    filter_cfg=dict(filter_empty_gt=False),
    pipeline={{_base_.unsup_pipeline}},
    backend_args={{_base_.backend_args}},
)

train_dataloader = dict(dataset=dict(datasets=[labeled_dataset, unlabeled_dataset]))
