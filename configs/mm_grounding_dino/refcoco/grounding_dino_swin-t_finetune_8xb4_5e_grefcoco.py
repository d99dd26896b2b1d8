_base_ = './grounding_dino_swin-t_finetune_8xb4_5e_refcoco.py'

ann_file = 'mdetr_annotations/finetune_grefcoco_testB.json'

val_evaluator_all_val = dict(
    _delete_=True,
    type='gRefCOCOMetric',
    ann_file='data/coco/mdetr_annotations/finetune_grefcoco_val.json',
    metric='bbox',
    iou_thrs=0.5,
    thresh_score=0.7,
    thresh_f1=1.0,
)

val_evaluator_refcoco_testA = dict(
    _delete_=True,
    type='gRefCOCOMetric',
    ann_file='data/coco/mdetr_annotations/finetune_grefcoco_testA.json',
    metric='bbox',
    iou_thrs=0.5,
    thresh_score=0.7,
    thresh_f1=1.0,
)

val_evaluator_refcoco_testB = dict(
    _delete_=True,
    type='gRefCOCOMetric',
    ann_file='data/coco/mdetr_annotations/finetune_grefcoco_testB.json',
    metric='bbox',
    iou_thrs=0.5,
    thresh_score=0.7,
    thresh_f1=1.0,
)

metrics = [
    dict(type='gRefCOCOMetric', ann_file=ann_file, metric='bbox', iou_thrs=0.5, thresh_score=0.7, thresh_f1=1.0)
    for ann_file in [
        'data/coco/mdetr_annotations/finetune_grefcoco_val.json',
        'data/coco/mdetr_annotations/finetune_grefcoco_testA.json',
        'data/coco/mdetr_annotations/finetune_grefcoco_testB.json',
    ]
]

val_dataset_all_val = dict(
    type='MDETRStyleRefCocoDataset',
    data_root={{_base_.data_root}},
    ann_file='mdetr_annotations/finetune_grefcoco_val.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline={{_base_.test_pipeline}},
    backend_args={{_base_.backend_args}},
)

val_dataset_refcoco_testA = dict(
    type='MDETRStyleRefCocoDataset',
    data_root={{_base_.data_root}},
    ann_file='mdetr_annotations/finetune_grefcoco_testA.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline={{_base_.test_pipeline}},
    backend_args={{_base_.backend_args}},
)

val_dataset_refcoco_testB = dict(
    type='MDETRStyleRefCocoDataset',
    data_root={{_base_.data_root}},
    ann_file='mdetr_annotations/finetune_grefcoco_testB.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline={{_base_.test_pipeline}},
    backend_args={{_base_.backend_args}},
)

datasets = [val_dataset_all_val, val_dataset_refcoco_testA, val_dataset_refcoco_testB]
dataset_prefixes = ['grefcoco_val', 'grefcoco_testA', 'grefcoco_testB']

train_dataloader = dict(dataset=dict(ann_file='mdetr_annotations/finetune_grefcoco_train_vg.json'))

val_dataloader = dict(dataset=dict(datasets=datasets))
test_dataloader = val_dataloader

val_evaluator = dict(metrics=metrics, dataset_prefixes=dataset_prefixes)
test_evaluator = val_evaluator
