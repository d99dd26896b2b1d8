_base_ = './rtts/grounding_dino_swin-t_finetune_8xb4_1x_rtts.py'

num_classes = 1

data_root = 'data/cat/'

metainfo = dict(classes=('cat',), palette=[(220, 20, 60)])

model = dict(bbox_head=dict(num_classes=num_classes))

train_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, ann_file='annotations/trainval.json', data_prefix=dict(img='images/')
    )
)

val_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file='annotations/test.json', data_prefix=dict(img='images/'), metainfo=metainfo
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/test.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=20)

param_scheduler = [dict(type='MultiStepLR', begin=0, end=20, by_epoch=True, milestones=[15], gamma=0.1)]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.0), language_model=dict(lr_mult=0.0))))

default_hooks = dict(logger=dict(interval=5))
