"""Names of the official GLIP and Grounding DINO, written out here, become those of the reference's ``state_dict``."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from mmdet.errors import UserError
from mmdet.models.backbones.swin import swin_converter

FOLDER = Path(__file__).parents[2] / 'tools' / 'model_converters'
BOTH = ('weight', 'bias')


def tool(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(*names):
    return [f'{name}.{end}' for name in names for end in BOTH]


def swin(depths=(2, 2, 6, 2), outputs=(1, 2, 3)):
    names = leaves('patch_embed.proj', 'patch_embed.norm', *(f'norm{i}' for i in outputs))
    for stage, depth in enumerate(depths):
        for block in range(depth):
            at = f'layers.{stage}.blocks.{block}'
            parts = ('norm1', 'norm2', 'attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2')
            names += leaves(*(f'{at}.{part}' for part in parts))
            names += [f'{at}.attn.relative_position_bias_table', f'{at}.attn.relative_position_index']
            names += [f'{at}.attn_mask'] if block % 2 else []
        if stage + 1 < len(depths):
            names += [f'layers.{stage}.downsample.reduction.weight', *leaves(f'layers.{stage}.downsample.norm')]
    return names


def bert(layers):
    names = leaves('embeddings.LayerNorm', 'pooler.dense') + ['embeddings.position_ids']
    names += [f'embeddings.{kind}_embeddings.weight' for kind in ('word', 'position', 'token_type')]
    return names + [f'encoder.layer.{i}.{name}' for i in range(layers) for name in bert_layer()]


def bert_layer():
    return leaves(
        *(f'attention.self.{part}' for part in ('query', 'key', 'value')),
        *('attention.output.dense', 'attention.output.LayerNorm', 'intermediate.dense', 'output.dense'),
        'output.LayerNorm',
    )


def fusion():
    parts = ('v_proj', 'l_proj', 'values_v_proj', 'values_l_proj', 'out_v_proj', 'out_l_proj')
    return leaves('layer_norm_v', 'layer_norm_l', *(f'attn.{part}' for part in parts)) + ['gamma_v', 'gamma_l']


def deformable(name):
    return leaves(
        *(f'{name}.{part}' for part in ('sampling_offsets', 'attention_weights', 'value_proj', 'output_proj'))
    )


def attention(name):
    return [f'{name}.in_proj_weight', f'{name}.in_proj_bias', *leaves(f'{name}.out_proj')]


def grounding_dino(bert_layers):
    names = [f'backbone.0.{name}' for name in swin()] + [f'bert.{name}' for name in bert(bert_layers)]
    names += leaves('feat_map', *(f'input_proj.{i}.{part}' for i in range(4) for part in range(2)))
    names += ['label_enc.weight', 'transformer.level_embed', 'transformer.tgt_embed.weight']
    names += leaves('transformer.enc_output', 'transformer.enc_output_norm', 'transformer.decoder.norm')
    names += leaves(*(f'transformer.enc_out_bbox_embed.layers.{k}' for k in range(3)))
    names += leaves(*(f'transformer.decoder.ref_point_head.layers.{k}' for k in range(2)))
    feed = ('linear1', 'linear2', 'norm1', 'norm2')
    for i in range(6):
        encoder, decoder = (f'transformer.{part}' for part in ('encoder', 'decoder'))
        names += deformable(f'{encoder}.layers.{i}.self_attn') + attention(f'{encoder}.text_layers.{i}.self_attn')
        names += leaves(*(f'{encoder}.{kind}.{i}.{part}' for kind in ('layers', 'text_layers') for part in feed))
        names += [f'{encoder}.fusion_layers.{i}.{name}' for name in fusion()]
        at = f'{decoder}.layers.{i}'
        names += deformable(f'{at}.cross_attn') + attention(f'{at}.self_attn') + attention(f'{at}.ca_text')
        names += leaves(*(f'{at}.{part}' for part in (*feed, 'catext_norm', 'norm3')))
        names += leaves(
            *(f'{head}.{i}.layers.{k}' for head in ('bbox_embed', f'{decoder}.bbox_embed') for k in range(3))
        )
    return names


def glip(bert_layers, fused):
    names = [f'backbone.body.{name}' for name in swin()]
    names += leaves(*(f'backbone.fpn.fpn_{kind}{i}' for kind in ('inner', 'layer') for i in (2, 3, 4)))
    names += leaves('backbone.fpn.top_blocks.p6', 'backbone.fpn.top_blocks.p7')
    names += [f'language_backbone.body.model.{name}' for name in bert(bert_layers)]
    head = 'rpn.head'
    names += [f'{head}.{name}' for name in ('log_scale', 'bias_lang', 'bias0')]
    names += [f'{head}.scales.{i}.scale' for i in range(5)] + [
        f'rpn.anchor_generator.cell_anchors.{i}' for i in range(5)
    ]
    names += leaves(
        *(f'{head}.{part}' for part in ('bbox_pred', 'centerness', 'cls_logits', 'dot_product_projection_text'))
    )
    for i in range(6):
        at = f'{head}.dyhead_tower.{3 * i if fused else i}'
        if fused:
            names += [f'{at}.b_attn.{name}' for name in fusion()]
            names += [f'{head}.dyhead_tower.{3 * i + 1}.{name}' for name in bert_layer()]
            at = f'{head}.dyhead_tower.{3 * i + 2}'
        names += leaves(*(f'{at}.DyConv.{k}.{part}' for k in range(3) for part in ('conv', 'bn')))
        names += leaves(f'{at}.AttnConv.1', f'{at}.relu.fc.0', f'{at}.relu.fc.2', f'{at}.offset')
    return names


def numbered(names):
    """A tensor for each name that says its place; those of merged patches are of four neighbours."""
    return {
        f'module.{name}': torch.full((8,), float(i)) if '.downsample.' in name else torch.tensor(float(i))
        for i, name in enumerate(names)
    }


def wanted(shared_dir, case):
    with gzip.open(shared_dir / 'parity' / 'cases' / f'{case}.json.gz') as file:
        names = {name for name, _ in json.load(file)['state']}
    layers = 1 + max(int(name.split('encoder.layer.')[1].split('.')[0]) for name in names if 'encoder.layer.' in name)
    return names - {'dn_query_generator.label_embedding.weight'}, layers


def test_grounding_dino(shared_dir):
    names, layers = wanted(shared_dir, 'grounding_dino__refcoco__grounding_dino_swin-t_pretrain_zeroshot_refexp')
    official = numbered(grounding_dino(layers))
    found = tool('groundingdino_to_mmdet').convert(official)
    assert set(found) == names
    pairs = {
        'transformer.decoder.layers.3.catext_norm.weight': 'decoder.layers.3.norms.1.weight',
        'transformer.decoder.layers.3.norm1.bias': 'decoder.layers.3.norms.2.bias',
        'transformer.decoder.layers.0.norm2.bias': 'decoder.layers.0.norms.0.bias',
        'transformer.decoder.layers.0.ca_text.in_proj_weight': 'decoder.layers.0.cross_attn_text.attn.in_proj_weight',
        'transformer.encoder.layers.5.norm2.weight': 'encoder.layers.5.norms.1.weight',
        'transformer.decoder.bbox_embed.4.layers.2.bias': 'bbox_head.reg_branches.4.4.bias',
        'transformer.enc_out_bbox_embed.layers.1.weight': 'bbox_head.reg_branches.6.2.weight',
        'input_proj.3.1.weight': 'neck.extra_convs.0.gn.weight',
        'backbone.0.layers.2.blocks.5.mlp.fc2.bias': 'backbone.stages.2.blocks.5.ffn.layers.1.bias',
    }
    assert {old: found[new].item() for old, new in pairs.items()} == {
        old: official[f'module.{old}'].item() for old in pairs
    }


@pytest.mark.parametrize(
    'case, fused',
    [
        ('glip__glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365', False),
        ('glip__glip_atss_swin-t_b_fpn_dyhead_pretrain_obj365', True),
    ],
)
def test_glip(shared_dir, case, fused):
    names, layers = wanted(shared_dir, case)
    official = numbered(glip(layers, fused))
    found = tool('glip_to_mmdet').convert(official)
    assert set(found) == names
    pairs = {
        'backbone.fpn.fpn_inner3.weight': 'neck.lateral_convs.1.conv.weight',
        'backbone.fpn.top_blocks.p7.bias': 'neck.fpn_convs.4.conv.bias',
        'rpn.head.dyhead_tower.2.DyConv.1.bn.weight': 'bbox_head.head.dyhead_tower.2.dyconvs.1.bn.weight',
    }
    assert {old: found[new].item() for old, new in pairs.items()} == {
        old: official[f'module.{old}'].item() for old in pairs
    }


@pytest.mark.parametrize(
    'name, weights, new',
    [
        ('glip_to_mmdet', {'module.rpn.head.bias0': torch.ones(1)}, 'bbox_head.head.bias0'),
        ('groundingdino_to_mmdet', {'module.feat_map.bias': torch.ones(1)}, 'text_feat_map.bias'),
    ],
)
def test_the_command(tmp_path, capsys, name, weights, new):
    torch.save(dict(model=weights), tmp_path / 'official.pth')
    places = {name: str(tmp_path / name) for name in ('a.pth', 'b.pth')}
    for args, out in (
        ([], 'official_mmdet.pth'),
        ([places['a.pth']], 'a.pth'),
        (['--dst', places['b.pth']], 'b.pth'),
    ):
        tool(name).main([str(tmp_path / 'official.pth'), *args])
        assert torch.load(tmp_path / out)['state_dict'] == {new: torch.ones(1)}
    assert '1 tensors' in capsys.readouterr().out
    with pytest.raises(UserError, match=r"'head\.weight' is no weight"):
        tool(name).convert({'head.weight': torch.ones(1)})


def test_patches_are_merged_in_our_order():
    weight = torch.arange(8.0)[None]  # columns of (column, row, channel) with two channels
    (moved,) = swin_converter({'layers.0.downsample.reduction.weight': weight}).values()
    assert moved.tolist() == [[0, 4, 2, 6, 1, 5, 3, 7]]
