_base_ = './deimv2_hgnetv2-n_8xb16-160e_coco.py'

# One map of stride 16 makes two levels; layers share their box branch, have no gates and do not teach each other.
model = dict(
    num_queries=100,
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(arch='Atto', out_indices=(2,)),
    neck=dict(
        _delete_=True,
        type='LiteEncoder',
        in_channels=[256],
        out_channels=64,
        num_blocks=2,
        expand_ratio=0.34,
        trailing_conv=True,
    ),
    decoder=dict(
        layer_cfg=dict(
            gateway=False,
            self_attn_cfg=dict(embed_dims=64),
            cross_attn_cfg=dict(embed_dims=64, num_points=[4, 2]),
            ffn_cfg=dict(embed_dims=64, feedforward_channels=160),
        )
    ),
    bbox_head=dict(embed_dims=64, share_box_branch=True, loss_fgl_weight=0.0, loss_ddf_weight=0.0),
    test_cfg=dict(max_per_img=100),
)

max_epochs = 500
plain_epochs = 32
optim_wrapper = dict(optimizer=dict(lr=0.002))

size = (320, 320)
resize = dict(type='Resize', scale=size, keep_ratio=False)
pack_pipeline = [_base_.pack_pipeline[0], resize, *_base_.pack_pipeline[2:]]
mosaic, mixup = (dict(transform, img_scale=size) for transform in _base_.dense_pipeline[2:4])
dense_pipeline = [*_base_.load_pipeline, mosaic, mixup, _base_.dense_pipeline[4], *pack_pipeline]
train_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2000),
    dict(
        type='CosineAnnealingLR',
        begin=max_epochs // 2,
        end=max_epochs - plain_epochs,
        T_max=max_epochs - plain_epochs - max_epochs // 2,
        eta_min_ratio=0.5,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [
    _base_.custom_hooks[0],
    dict(type='PipelineSwitchHook', switch_epoch=4, switch_pipeline=dense_pipeline),
    dict(type='PipelineSwitchHook', switch_epoch=max_epochs // 2, switch_pipeline=train_pipeline),
    dict(
        type='PipelineSwitchHook',
        switch_epoch=max_epochs - plain_epochs,
        switch_pipeline=[*_base_.load_pipeline, *pack_pipeline],
    ),
]
