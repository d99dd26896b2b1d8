_base_ = './htc_hrnetv2p-w40_28e_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNeXt',
        depth=101,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnext101_64x4d'),
        groups=64,
        base_width=4,
    ),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], num_outs=5),
)

train_dataloader = dict(batch_size=1, num_workers=1)
