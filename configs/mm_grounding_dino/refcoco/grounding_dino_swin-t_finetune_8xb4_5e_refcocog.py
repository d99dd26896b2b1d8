_base_ = './grounding_dino_swin-t_finetune_8xb4_5e_refcoco.py'

val_evaluator_all_val = dict(
    type='RefExpMetric',
    ann_file='data/coco/mdetr_annotations/finetune_refcocog_val.json',
    metric='bbox',
    iou_thrs=0.5,
    topk=(1, 5, 10),
)

val_evaluator_refcoco_test = dict(
    type='RefExpMetric',
    ann_file='data/coco/mdetr_annotations/finetune_refcocog_test.json',
    metric='bbox',
    iou_thrs=0.5,
    topk=(1, 5, 10),
)

metrics = [val_evaluator_all_val, val_evaluator_refcoco_test]

val_dataset_all_val = dict(
    type='MDETRStyleRefCocoDataset',
    data_root={{_base_.data_root}},
    ann_file='mdetr_annotations/finetune_refcocog_val.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline={{_base_.test_pipeline}},
    backend_args={{_base_.backend_args}},
)

val_dataset_refcoco_test = dict(
    type='MDETRStyleRefCocoDataset',
    data_root={{_base_.data_root}},
    ann_file='mdetr_annotations/finetune_refcocog_test.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline={{_base_.test_pipeline}},
    backend_args={{_base_.backend_args}},
)

datasets = [val_dataset_all_val, val_dataset_refcoco_test]
dataset_prefixes = ['refcocog_val', 'refcocog_test']

train_dataloader = dict(dataset=dict(ann_file='mdetr_annotations/finetune_refcocog_train_vg.json'))

val_dataloader = dict(dataset=dict(datasets=datasets))
test_dataloader = val_dataloader

val_evaluator = dict(metrics=metrics, dataset_prefixes=dataset_prefixes)
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best='auto'))
