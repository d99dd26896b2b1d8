_base_ = '../flickr30k/grounding_dino_swin-t-pretrain_flickr30k.py'

dataset_type = 'ODVGDataset'
data_root = 'data/coco/'

val_evaluator_all_val = dict(
    type='RefExpMetric',
    ann_file=data_root + 'mdetr_annotations/finetune_refcoco_val.json',
    metric='bbox',
    iou_thrs=0.5,
    topk=(1, 5, 10),
)

val_evaluator_refcoco_testA = dict(
    type='RefExpMetric',
    ann_file=data_root + 'mdetr_annotations/finetune_refcoco_testA.json',
    metric='bbox',
    iou_thrs=0.5,
    topk=(1, 5, 10),
)

val_evaluator_refcoco_testB = dict(
    type='RefExpMetric',
    ann_file=data_root + 'mdetr_annotations/finetune_refcoco_testB.json',
    metric='bbox',
    iou_thrs=0.5,
    topk=(1, 5, 10),
)

metrics = [val_evaluator_all_val, val_evaluator_refcoco_testA, val_evaluator_refcoco_testB]

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.0),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='RandomChoiceResize', scales=[(size, 1333) for size in range(480, 801, 32)], keep_ratio=True)],
            [
                dict(type='RandomChoiceResize', scales=[(400, 4200), (500, 4200), (600, 4200)], keep_ratio=True),
                dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True),
                dict(type='RandomChoiceResize', scales=[(size, 1333) for size in range(480, 801, 32)], keep_ratio=True),
            ],
        ],
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(0.01, 0.01)),
    dict(type='RandomSamplingNegPos', tokenizer_name='bert-base-uncased', num_sample_negative=85, max_tokens=256),
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
            'text',
            'custom_entities',
            'tokens_positive',
            'dataset_mode',
        ),
    ),
]

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}, imdecode_backend='pillow'),
    dict(type='FixScaleResize', scale=(800, 1333), keep_ratio=True, backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'text',
            'custom_entities',
            'tokens_positive',
        ),
    ),
]

val_dataset_all_val = dict(
    type='MDETRStyleRefCocoDataset',
    data_root=data_root,
    ann_file='mdetr_annotations/finetune_refcoco_val.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline=test_pipeline,
    backend_args={{_base_.backend_args}},
)

val_dataset_refcoco_testA = dict(
    type='MDETRStyleRefCocoDataset',
    data_root=data_root,
    ann_file='mdetr_annotations/finetune_refcoco_testA.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline=test_pipeline,
    backend_args={{_base_.backend_args}},
)

val_dataset_refcoco_testB = dict(
    type='MDETRStyleRefCocoDataset',
    data_root=data_root,
    ann_file='mdetr_annotations/finetune_refcoco_testB.json',
    data_prefix=dict(img='train2014/'),
    test_mode=True,
    return_classes=True,
    pipeline=test_pipeline,
    backend_args={{_base_.backend_args}},
)

datasets = [val_dataset_all_val, val_dataset_refcoco_testA, val_dataset_refcoco_testB]
dataset_prefixes = ['refcoco_val', 'refcoco_testA', 'refcoco_testB']

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file='mdetr_annotations/finetune_refcoco_train_vg.json',
        data_prefix=dict(img='train2014/'),
        filter_cfg=dict(filter_empty_gt=False, min_size=32),
        return_classes=True,
        pipeline=train_pipeline,
    )
)

val_dataloader = dict(dataset=dict(datasets=datasets))
test_dataloader = val_dataloader

val_evaluator = dict(metrics=metrics, dataset_prefixes=dataset_prefixes)
test_evaluator = val_evaluator

max_epochs = 5

train_cfg = dict(max_epochs=max_epochs)

param_scheduler = [dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[3], gamma=0.1)]

optim_wrapper = dict(
    optimizer=dict(lr=0.0002),
    paramwise_cfg=dict(
        custom_keys=dict(_delete_=True, absolute_pos_embed=dict(decay_mult=0.0), backbone=dict(lr_mult=0.1))
    ),
)

load_from = 'https://download.openmmlab.com/mmdetection/v3.0/mm_grounding_dino/grounding_dino_swin-t_pretrain_obj365_goldg_grit9m_v3det/grounding_dino_swin-t_pretrain_obj365_goldg_grit9m_v3det_20231204_095047-b448804b.pth'
