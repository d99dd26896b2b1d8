_base_ = './grounding_dino_swin-t_finetune_16xb4_1x_coco.py'

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
    dict(
        type='RandomSamplingNegPos',
        tokenizer_name='bert-base-uncased',
        num_sample_negative=20,
        label_map_file='data/coco/annotations/coco2017_label_map.json',
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
        type={{_base_.dataset_type}},
        need_text=False,
        ann_file='annotations/instances_train2017_od.json',
        label_map_file='annotations/coco2017_label_map.json',
        pipeline=train_pipeline,
    )
)

optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(custom_keys=dict(language_model=dict(lr_mult=0.0))))
