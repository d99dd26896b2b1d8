"""Learning rates by layers: which layer a parameter is of, and the groups of small models."""

import pytest
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmdet.engine.optimizers import layer_decay_optimizer_constructor as module
from mmdet.registry import MODELS


@pytest.mark.parametrize(
    ('name', 'layer', 'stage'),
    [
        ('backbone.downsample_layers.0.0.weight', 0, 0),
        ('backbone.downsample_layers.2.0.weight', 3, 0),
        ('backbone.stages.0.1.gamma', 1, 1),
        ('backbone.stages.2.7.gamma', 5, 3),
        ('backbone.stages.3.0.gamma', 12, 4),
        ('neck.lateral_convs.0.conv.weight', 13, 13),
    ],
)
def test_layers_of_convnext(name, layer, stage):
    assert module.get_layer_id_for_convnext(name, 12) == layer
    assert module.get_stage_id_for_convnext(name, 14) == stage


def test_layer_decay_groups(default_scope):
    class ConvNeXt(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.ModuleList([nn.ModuleList([nn.Linear(2, 2)])])

    model = nn.Module()
    model.backbone, model.neck = ConvNeXt(), nn.Linear(2, 2)
    cfg = dict(
        constructor='LearningRateDecayOptimizerConstructor',
        paramwise_cfg=dict(decay_rate=0.5, decay_type='layer_wise', num_layers=2),
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
    )
    groups = {g['group_name']: g for g in build_optim_wrapper(model, cfg).optimizer.param_groups}
    assert {name: (g['lr'], g['weight_decay']) for name, g in groups.items()} == {
        'layer_1_decay': (0.25, 0.1),
        'layer_1_no_decay': (0.25, 0.0),
        'layer_3_decay': (1.0, 0.1),
        'layer_3_no_decay': (1.0, 0.0),
    }


TABLE_OF_A_VIT = {  # of three blocks, whose last output is that of the second: (scale, decay)
    'backbone.pos_embed': (0.125, 0.0),
    'backbone.patch_embed.weight': (0.125, 0.1),
    'backbone.patch_embed.bias': (0.125, 0.0),
    'backbone.blocks.0.attn.qkv.weight': (0.25, 0.1),
    'backbone.blocks.0.norm1.weight': (0.25, 0.0),
    'backbone.blocks.0.gamma1': (0.25, 0.0),
    'backbone.blocks.1.mlp.0.weight': (0.5, 0.1),
    'neck.weight': (1.0, 0.1),
    'neck.bias': (1.0, 0.0),
}
TABLES = {
    'WindowedViT': (dict(depth=3, window_blocks=(), out_indices=(1,), num_windows=1), {}, TABLE_OF_A_VIT),
    'DINOv2': (
        dict(depth=3, window_blocks=(), out_indices=(1,), num_windows=1, patch_size=16),
        dict(num_layers=3, custom_keys=dict(backbone=dict(lr_mult=4.0), norm1=dict(decay_mult=2.0, lr_mult=2.0))),
        {
            'backbone.cls_token': (0.25, 0.0),
            'backbone.patch_embed.weight': (0.25, 0.1),
            'backbone.blocks.0.attn.qkv.weight': (0.5, 0.1),
            'backbone.blocks.1.mlp.2.weight': (1.0, 0.1),
            'backbone.blocks.1.norm1.weight': (1.0, 0.0),  # the longer key
            'backbone.norm.weight': (4.0, 0.0),
            'neck.weight': (1.0, 0.1),
        },
    ),
    'ViT': (
        dict(depth=2, use_rel_pos=True),
        {},
        {
            'backbone.pos_embed': (0.125, 0.0),
            'backbone.patch_embed.proj.weight': (0.125, 0.1),
            'backbone.blocks.0.attn.rel_pos_h': (0.25, 0.1),
            'backbone.blocks.0.mlp.fc1.bias': (0.25, 0.0),
            'backbone.blocks.1.norm2.weight': (0.5, 0.0),
            'neck.weight': (1.0, 0.1),
        },
    ),
}


@pytest.mark.parametrize('kind', TABLES)
def test_layer_decay_of_plain_vits(kind, default_scope):
    options, settings, table = TABLES[kind]
    dims = dict(embed_dim=8) if kind == 'ViT' else dict(embed_dims=8)
    model = nn.Module()
    model.backbone, model.neck = MODELS.build(dict(type=kind, num_heads=2, **dims, **options)), nn.Linear(2, 2)
    cfg = dict(
        constructor='LearningRateDecayOptimizerConstructor',
        paramwise_cfg=dict(decay_rate=0.5, **settings),
        optimizer=dict(type='AdamW', lr=2.0, weight_decay=0.1),
    )
    groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    found = {name: (g['lr'] / 2, g['weight_decay']) for g in groups for name in g['param_names']}
    assert {name: found[name] for name in table} == table
    assert all(g['lr'] == g['lr_scale'] * 2 for g in groups)
    assert sorted(found) == sorted(name for name, p in model.named_parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(decay_type='stage_wise'), 'a plain ViT has layers, no stages'),
        (dict(decay_type='layerwise'), "'layer_wise' or 'stage_wise', not 'layerwise'"),
    ],
)
def test_layer_decay_of_plain_vits_refuses(settings, message, default_scope):
    model = nn.Module()
    model.backbone = MODELS.build(dict(type='ViT', embed_dim=8, num_heads=2, depth=1))
    cfg = dict(
        constructor='LearningRateDecayOptimizerConstructor',
        paramwise_cfg=dict(decay_rate=0.5, **settings),
        optimizer=dict(type='AdamW', lr=1.0),
    )
    with pytest.raises(ValueError, match=message):
        build_optim_wrapper(model, cfg)
