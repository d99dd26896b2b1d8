_base_ = './rfdetr-seg_preview_8xb2-60e_coco.py'

model = dict(
    num_queries=200,
    data_preprocessor=dict(
        batch_augments=[dict(type='BatchSyncRandomResize', random_size_range=(336, 528), size_divisor=24, interval=1)]
    ),
    backbone=dict(pretrain_size=432),
    decoder=dict(num_layers=5),
    test_cfg=dict(max_per_img=200),
)
