_base_ = '../cityscapes/grounding_dino_swin-t_finetune_8xb4_50e_cityscapes.py'

data_root = 'data/brain_tumor_v2/'

class_name = ('label0', 'label1', 'label2')
palette = [(220, 20, 60), (255, 0, 0), (0, 0, 142)]
metainfo = dict(classes=class_name, palette=palette)

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root,
            metainfo=metainfo,
            data_prefix=dict(img='train/'),
            ann_file='train/_annotations.coco.json',
        )
    )
)

val_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file='valid/_annotations.coco.json', data_prefix=dict(img='valid/'), metainfo=metainfo
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'valid/_annotations.coco.json')
test_evaluator = val_evaluator
