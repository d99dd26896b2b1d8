_base_ = '../deim/deim_dfine_hgnetv2-n_8xb16-160e_coco.py'

model = dict(
    type='DEIMv2',
    neck=dict(type='DEIMv2HybridEncoder', trailing_conv=True),
    decoder=dict(layer_cfg=dict(ffn_cfg=dict(_delete_=True, embed_dims=128, feedforward_channels=512))),
)

# Copy-Blend puts more objects into a picture from the fifth epoch to those without augmentation.
copy_blend = dict(
    type='CachedCopyBlend',
    num_objects=3,
    min_area=100,
    expand_ratio=(0.1, 0.25),
    blend_ratio=(0.45, 0.55),
    max_cached_images=20,
    prob=0.5,
)
dense_pipeline = [*_base_.dense_pipeline[:-2], copy_blend, *_base_.dense_pipeline[-2:]]
blend_pipeline = [*_base_.train_pipeline[:-2], copy_blend, *_base_.train_pipeline[-2:]]
custom_hooks = [
    _base_.custom_hooks[0],
    dict(_base_.custom_hooks[1], switch_pipeline=dense_pipeline),
    dict(_base_.custom_hooks[2], switch_pipeline=blend_pipeline),
    _base_.custom_hooks[3],
]
