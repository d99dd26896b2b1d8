_base_ = './grounding_dino_swin-t_finetune_8xb4_5e_refcoco.py'

val_evaluator_all_val = dict(
    type='RefExpMetric',
    ann_file='data/coco/mdetr_annotations/finetune_refcoco+_val.json',
    metric='bbox',
    iou_thrs=0.5,
    topk=(1, 5, 10),
)

val_evaluator_refcoco_testA = dict(
    type='RefExpMetric',
    ann_file='data/coco/mdetr_annotations/finetune_refcoco+_testA.json',
    metric='bbox',
    iou_thrs=0.5,
    topk=(1, 5, 10),
)

val_evaluator_refcoco_testB = dict(
    type='RefExpMetric',
    ann_file='data/coco/mdetr_annotations/finetune_refcoco+_testB.json',
    metric='bbox',
    iou_thrs=0.5,
    topk=(1, 5, 10),
)

metrics = [val_evaluator_all_val, val_evaluator_refcoco_testA, val_evaluator_refcoco_testB]

val_dataset_all_val = dict(
    type='MDETRStyleRefCocoDataset',
    data_root={{_base_.data_root}},
    ann_file='mdetr_annotations/finetune_refcoco+_val.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline={{_base_.test_pipeline}},
    backend_args={{_base_.backend_args}},
)

val_dataset_refcoco_testA = dict(
    type='MDETRStyleRefCocoDataset',
    data_root={{_base_.data_root}},
    ann_file='mdetr_annotations/finetune_refcoco+_testA.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline={{_base_.test_pipeline}},
    backend_args={{_base_.backend_args}},
)

val_dataset_refcoco_testB = dict(
    type='MDETRStyleRefCocoDataset',
    data_root={{_base_.data_root}},
    ann_file='mdetr_annotations/finetune_refcoco+_testB.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline={{_base_.test_pipeline}},
    backend_args={{_base_.backend_args}},
)

datasets = [val_dataset_all_val, val_dataset_refcoco_testA, val_dataset_refcoco_testB]
dataset_prefixes = ['refcoco+_val', 'refcoco+_testA', 'refcoco+_testB']

train_dataloader = dict(dataset=dict(ann_file='mdetr_annotations/finetune_refcoco+_train_vg.json'))

val_dataloader = dict(dataset=dict(datasets=datasets))
test_dataloader = val_dataloader

val_evaluator = dict(metrics=metrics, dataset_prefixes=dataset_prefixes)
test_evaluator = val_evaluator
