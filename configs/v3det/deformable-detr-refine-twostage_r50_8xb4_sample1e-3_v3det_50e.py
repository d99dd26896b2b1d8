_base_ = '../deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py'

data_root = 'data/V3Det/'

max_iter = 286500

model = dict(bbox_head=dict(num_classes=13204), test_cfg=dict(max_per_img=300))

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=0.001,
        dataset=dict(
            type='V3DetDataset',
            data_root=data_root,
            ann_file='annotations/v3det_2023_v1_train.json',
            data_prefix=dict(img=''),
            filter_cfg=dict(filter_empty_gt=False),
            pipeline={{_base_.train_pipeline}},
            backend_args={{_base_.backend_args}},
        ),
    ),
)

val_dataloader = dict(
    dataset=dict(
        type='V3DetDataset',
        data_root=data_root,
        ann_file='annotations/v3det_2023_v1_val.json',
        data_prefix=dict(img=''),
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/v3det_2023_v1_val.json', use_mp_eval=True, proposal_nums=[300])
test_evaluator = val_evaluator

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iter, val_interval=57300.0)

param_scheduler = [dict(type='MultiStepLR', begin=0, end=max_iter, by_epoch=False, milestones=[229200], gamma=0.1)]

default_hooks = dict(checkpoint=dict(interval=5730, by_epoch=False, max_keep_ckpts=3))

log_processor = dict(by_epoch=False)
