_base_ = './grounding_dino_swin-t_finetune_16xb2_1x_coco.py'

num_classes = 1

data_root = 'data/cat/'

metainfo = dict(classes=('cat',), palette=[(220, 20, 60)])

model = dict(bbox_head=dict(num_classes=num_classes))

train_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file='annotations/trainval.json', data_prefix=dict(img='images/'), metainfo=metainfo
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

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=30),
    dict(type='MultiStepLR', begin=0, end=20, by_epoch=True, milestones=[15], gamma=0.1),
]

optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(custom_keys=dict(language_model=dict(lr_mult=0))))

auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2 images

default_hooks = dict(logger=dict(interval=5), checkpoint=dict(max_keep_ckpts=1, save_best='auto'))
