_base_ = './rfdetr-seg_preview_8xb2-60e_coco.py'

model = dict(
    num_queries=100,
    data_preprocessor=dict(
        batch_augments=[dict(type='BatchSyncRandomResize', random_size_range=(288, 480), size_divisor=24, interval=1)]
    ),
    backbone=dict(pretrain_size=384),
    decoder=dict(num_layers=4),
    test_cfg=dict(max_per_img=100),
)

resize = dict(type='Resize', scale=(384, 384), keep_ratio=False)
train_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
