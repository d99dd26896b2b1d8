_base_ = '../rtts/grounding_dino_swin-t_finetune_8xb4_1x_rtts.py'

data_root = 'data/cityscapes/'

class_name = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
palette = [(220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)]
metainfo = dict(classes=class_name, palette=palette)

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=10,
        dataset=dict(
            type='CocoDataset',
            data_root=data_root,
            metainfo=metainfo,
            filter_cfg=dict(filter_empty_gt=False, min_size=32),
            pipeline={{_base_.train_pipeline}},
            return_classes=True,
            data_prefix=dict(img='leftImg8bit/train/'),
            ann_file='annotations/instancesonly_filtered_gtFine_train.json',
        ),
    )
)

val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instancesonly_filtered_gtFine_val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        metainfo=metainfo,
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/instancesonly_filtered_gtFine_val.json')
test_evaluator = val_evaluator

max_epochs = 5

train_cfg = dict(max_epochs=max_epochs)

param_scheduler = [dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[4], gamma=0.1)]
