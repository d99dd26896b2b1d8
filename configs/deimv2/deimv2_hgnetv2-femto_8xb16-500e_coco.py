_base_ = './deimv2_hgnetv2-pico_8xb16-500e_coco.py'

model = dict(
    num_queries=150,
    backbone=dict(arch='Femto'),
    neck=dict(in_channels=[512], out_channels=96),
    decoder=dict(
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=96),
            cross_attn_cfg=dict(embed_dims=96),
            ffn_cfg=dict(embed_dims=96, feedforward_channels=256),
        )
    ),
    bbox_head=dict(embed_dims=96),
    test_cfg=dict(max_per_img=150),
)

optim_wrapper = dict(optimizer=dict(lr=0.0016))

size = (416, 416)
resize = dict(type='Resize', scale=size, keep_ratio=False)
pack_pipeline = [_base_.pack_pipeline[0], resize, *_base_.pack_pipeline[2:]]
mosaic, mixup = (dict(transform, img_scale=size) for transform in _base_.dense_pipeline[2:4])
blended = [*pack_pipeline[:2], _base_.copy_blend, *pack_pipeline[2:]]
dense_pipeline = [*_base_.load_pipeline, mosaic, mixup, _base_.dense_pipeline[4], *blended]
train_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
blend_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.blend_pipeline]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
custom_hooks = [
    _base_.custom_hooks[0],
    dict(_base_.custom_hooks[1], switch_pipeline=dense_pipeline),
    dict(_base_.custom_hooks[2], switch_pipeline=blend_pipeline),
    dict(_base_.custom_hooks[3], switch_pipeline=[*_base_.load_pipeline, *pack_pipeline]),
]
