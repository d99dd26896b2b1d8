_base_ = './grounding_dino_swin-t_pretrain_obj365.py'

pretrained = (
    'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window12_384_22k.pth'
)

max_iter = 609360

model = dict(
    backbone=dict(
        pretrain_img_size=384,
        embed_dims=192,
        depths=[2, 2, 18, 2],
        num_heads=[6, 12, 24, 48],
        window_size=12,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(checkpoint=pretrained),
    ),
    neck=dict(in_channels=[192, 384, 768, 1536], num_outs=5),
    encoder=dict(layer_cfg=dict(self_attn_cfg=dict(num_levels=5))),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_levels=5))),
    num_feature_levels=5,
)

objv2_train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
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
        label_map_file='data/objects365v2/annotations/o365v2_label_map.json',
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

oi_train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
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
        label_map_file='data/OpenImages/annotations/openimages_label_map.json',
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

v3d_train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
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
        label_map_file='data/V3Det/annotations/v3det_2023_v1_label_map.json',
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

lvis_train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
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

grit_train_pipeline = [
    dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}}),
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

o365v2_dataset = dict(
    type={{_base_.dataset_type}},
    data_root='data/objects365v2/',
    ann_file='annotations/zhiyuan_objv2_train_od.json',
    label_map_file='annotations/o365v2_label_map.json',
    data_prefix=dict(img='train/'),
    filter_cfg=dict(filter_empty_gt=False),
    pipeline=objv2_train_pipeline,
    return_classes=True,
    need_text=False,
    backend_args={{_base_.backend_args}},
)

oiv6_dataset = dict(
    type={{_base_.dataset_type}},
    data_root='data/OpenImages/',
    ann_file='annotations/oidv6-train-annotations_od.json',
    label_map_file='annotations/openimages_label_map.json',
    data_prefix=dict(img='OpenImages/train/'),
    filter_cfg=dict(filter_empty_gt=False),
    need_text=False,
    pipeline=oi_train_pipeline,
    return_classes=True,
    backend_args={{_base_.backend_args}},
)

v3det_dataset = dict(
    type='RepeatDataset',
    times=2,
    dataset=dict(
        type={{_base_.dataset_type}},
        data_root='data/V3Det/',
        ann_file='annotations/v3det_2023_v1_train_od.json',
        label_map_file='annotations/v3det_2023_v1_label_map.json',
        data_prefix=dict(img=''),
        filter_cfg=dict(filter_empty_gt=False),
        need_text=False,
        pipeline=v3d_train_pipeline,
        return_classes=True,
        backend_args={{_base_.backend_args}},
    ),
)

lvis_dataset = dict(
    type='ClassBalancedDataset',
    oversample_thr=0.001,
    dataset=dict(
        type={{_base_.dataset_type}},
        data_root='data/coco/',
        ann_file='annotations/lvis_v1_train_od.json',
        label_map_file='annotations/lvis_v1_label_map.json',
        data_prefix=dict(img=''),
        filter_cfg=dict(filter_empty_gt=False),
        need_text=False,
        pipeline=lvis_train_pipeline,
        return_classes=True,
        backend_args={{_base_.backend_args}},
    ),
)

coco2017_train_dataset = dict(
    type='RepeatDataset',
    times=2,
    dataset=dict(
        type={{_base_.dataset_type}},
        data_root='data/coco/',
        ann_file='annotations/instance_train2017_norefval_od.json',
        label_map_file='annotations/coco2017_label_map.json',
        data_prefix=dict(img='train2017'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline={{_base_.train_pipeline}},
        return_classes=True,
        backend_args={{_base_.backend_args}},
    ),
)

flickr30k_dataset = dict(
    type='RepeatDataset',
    times=2,
    dataset=dict(
        type={{_base_.dataset_type}},
        data_root='data/flickr30k_entities/',
        ann_file='final_flickr_separateGT_train_vg.json',
        label_map_file=None,
        data_prefix=dict(img='flickr30k_images/'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline={{_base_.train_pipeline}},
        return_classes=True,
        backend_args={{_base_.backend_args}},
    ),
)

gqa_dataset = dict(
    type={{_base_.dataset_type}},
    data_root='data/gqa/',
    ann_file='final_mixed_train_no_coco_vg.json',
    label_map_file=None,
    data_prefix=dict(img='images/'),
    filter_cfg=dict(filter_empty_gt=False),
    pipeline={{_base_.train_pipeline}},
    return_classes=True,
    backend_args={{_base_.backend_args}},
)

coco2014_vg_dataset = dict(
    type={{_base_.dataset_type}},
    data_root='data/coco/',
    ann_file='mdetr_annotations/final_mixed_train_only_coco_vg.json',
    label_map_file=None,
    data_prefix=dict(img='train2014/'),
    filter_cfg=dict(filter_empty_gt=False),
    pipeline={{_base_.train_pipeline}},
    return_classes=True,
    backend_args={{_base_.backend_args}},
)

refcoco_dataset = dict(
    type='RepeatDataset',
    times=2,
    dataset=dict(
        type={{_base_.dataset_type}},
        data_root='data/coco/',
        ann_file='mdetr_annotations/finetune_refcoco_train_vg.json',
        label_map_file=None,
        data_prefix=dict(img='train2014'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline={{_base_.train_pipeline}},
        return_classes=True,
        backend_args={{_base_.backend_args}},
    ),
)

refcoco_plus_dataset = dict(
    type='RepeatDataset',
    times=2,
    dataset=dict(
        type={{_base_.dataset_type}},
        data_root='data/coco/',
        ann_file='mdetr_annotations/finetune_refcoco+_train_vg.json',
        label_map_file=None,
        data_prefix=dict(img='train2014'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline={{_base_.train_pipeline}},
        return_classes=True,
        backend_args={{_base_.backend_args}},
    ),
)

refcocog_dataset = dict(
    type='RepeatDataset',
    times=3,
    dataset=dict(
        type={{_base_.dataset_type}},
        data_root='data/coco/',
        ann_file='mdetr_annotations/finetune_refcocog_train_vg.json',
        label_map_file=None,
        data_prefix=dict(img='train2014'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline={{_base_.train_pipeline}},
        return_classes=True,
        backend_args={{_base_.backend_args}},
    ),
)

grefcoco_dataset = dict(
    type='RepeatDataset',
    times=2,
    dataset=dict(
        type={{_base_.dataset_type}},
        data_root='data/coco/',
        ann_file='mdetr_annotations/finetune_grefcoco_train_vg.json',
        label_map_file=None,
        data_prefix=dict(img='train2014'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline={{_base_.train_pipeline}},
        return_classes=True,
        backend_args={{_base_.backend_args}},
    ),
)

grit_dataset = dict(
    type={{_base_.dataset_type}},
    data_root='data/grit/',
    ann_file='grit20m_vg.json',
    label_map_file=None,
    data_prefix=dict(img=''),
    filter_cfg=dict(filter_empty_gt=False),
    pipeline={{_base_.train_pipeline}},
    return_classes=True,
    backend_args={{_base_.backend_args}},
)

train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='CustomSampleSizeSampler',
        ratio_mode=True,
        dataset_size=[-1, 0.5, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0.09],
    ),
    dataset=dict(
        datasets=[
            o365v2_dataset,
            oiv6_dataset,
            v3det_dataset,
            coco2017_train_dataset,
            lvis_dataset,
            flickr30k_dataset,
            gqa_dataset,
            coco2014_vg_dataset,
            refcoco_dataset,
            refcoco_plus_dataset,
            refcocog_dataset,
            grefcoco_dataset,
            grit_dataset,
        ]
    ),
)

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iter, val_interval=13000)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=max_iter, by_epoch=False, milestones=[406240, 507800], gamma=0.1),
]

optim_wrapper = dict(optimizer=dict(lr=0.0008))

default_hooks = dict(checkpoint=dict(interval=13000, by_epoch=False, max_keep_ckpts=30))

log_processor = dict(by_epoch=False)
