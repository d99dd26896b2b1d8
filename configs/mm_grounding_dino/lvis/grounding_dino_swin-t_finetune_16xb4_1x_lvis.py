_base_ = '../coco/grounding_dino_swin-t_finetune_16xb4_1x_coco.py'

model = dict(test_cfg=dict(chunked_size=40))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
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
    dict(
        type='RandomSamplingNegPos',
        tokenizer_name='bert-base-uncased',
        num_sample_negative=85,
        label_map_file='data/coco/annotations/lvis_v1_label_map.json',
        max_tokens=256,
    ),
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

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=0.001,
        dataset=dict(
            type={{_base_.dataset_type}},
            data_root={{_base_.data_root}},
            need_text=False,
            label_map_file='annotations/lvis_v1_label_map.json',
            ann_file='annotations/lvis_v1_train_od.json',
            data_prefix=dict(img=''),
            filter_cfg=dict(filter_empty_gt=False, min_size=32),
            return_classes=True,
            pipeline=train_pipeline,
        ),
    )
)

val_dataloader = dict(
    dataset=dict(
        type='LVISV1Dataset', ann_file='annotations/lvis_v1_minival_inserted_image_name.json', data_prefix=dict(img='')
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True, type='LVISFixedAPMetric', ann_file='data/coco/annotations/lvis_v1_minival_inserted_image_name.json'
)
test_evaluator = val_evaluator

train_cfg = dict(val_interval=3)

param_scheduler = [dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[11], gamma=0.1)]

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(_delete_=True, absolute_pos_embed=dict(decay_mult=0.0), backbone=dict(lr_mult=0.1))
    )
)

default_hooks = dict(checkpoint=dict(save_best='lvis_fixed_ap/AP', rule='greater'))
