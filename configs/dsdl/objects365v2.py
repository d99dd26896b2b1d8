_base_ = './coco.py'

data_root = 'data/Objects365'

model = dict(roi_head=dict(bbox_head=dict(num_classes=365)))

train_dataloader = dict(dataset=dict(data_root=data_root))

val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=3)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[1, 2], gamma=0.1),
]

optim_wrapper = dict(optimizer=dict(lr=0.01))

default_hooks = dict(logger=dict(interval=1000))
