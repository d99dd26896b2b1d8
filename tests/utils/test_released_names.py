"""Names in the files that the authors of real-time detectors release, made by the rules of their modules."""

import argparse
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

from mmdet.config import load_config
from mmdet.engine.weights import load_weights
from mmdet.registry import MODELS
from mmdet.utils.checkpoint import read_checkpoint
from mmdet.utils.key_maps import _rename

NORM = ('weight', 'bias', 'running_mean', 'running_var')
LINEAR = ('weight', 'bias')


def several(prefix, names):
    return [f'{prefix}.{name}' for name in names]


def normed(prefix, conv='conv', norm='norm'):
    return [f'{prefix}.{conv}.weight', *several(f'{prefix}.{norm}', NORM)]


def mlp(prefix, layers):
    return [name for i in range(layers) for name in several(f'{prefix}.layers.{i}', LINEAR)]


def attention(prefix):
    return [*several(prefix, ('in_proj_weight', 'in_proj_bias')), *several(f'{prefix}.out_proj', LINEAR)]


def plain_resnet(depths, branches):
    yield from (name for i in (1, 2, 3) for name in normed(f'backbone.conv1.conv1_{i}'))
    for stage, depth in enumerate(depths):
        for block in range(depth):
            prefix = f'backbone.res_layers.{stage}.blocks.{block}'
            yield from (name for letter in branches for name in normed(f'{prefix}.branch2{letter}'))
            if block == 0:  # the stages that halve the picture pool first
                yield from [f'{prefix}.short{".conv" if stage else ""}.conv.weight']
                yield from several(f'{prefix}.short.norm', NORM)


def hgnet(blocks, light, layers):
    act = lambda prefix: [*normed(prefix, norm='bn'), f'{prefix}.lab.scale', f'{prefix}.lab.bias']
    for stem in ('stem1', 'stem2a', 'stem2b', 'stem3', 'stem4'):
        yield from act(f'backbone.stem.{stem}')
    for stage, count in enumerate(blocks):
        if stage:
            yield from normed(f'backbone.stages.{stage}.downsample', norm='bn')
        for block in range(count):
            prefix = f'backbone.stages.{stage}.blocks.{block}'
            for layer in range(layers):
                if light[stage]:
                    yield from normed(f'{prefix}.layers.{layer}.conv1', norm='bn')
                    yield from act(f'{prefix}.layers.{layer}.conv2')
                else:
                    yield from act(f'{prefix}.layers.{layer}')
            yield from act(f'{prefix}.aggregation.0')
            yield from act(f'{prefix}.aggregation.1')


def cells(second):
    conv, norm = ('conv', 'norm') if second else ('0', '1')
    yield from (name for i in range(3) for name in normed(f'encoder.input_proj.{i}', conv, norm))
    layer = 'encoder.encoder.0.layers.0'
    yield from attention(f'{layer}.self_attn')
    yield from (
        name for part in ('linear1', 'linear2', 'norm1', 'norm2') for name in several(f'{layer}.{part}', LINEAR)
    )


def pyramid(bottlenecks, third):
    for i in range(2):
        yield from normed(f'encoder.lateral_convs.{i}')
        yield from normed(f'encoder.downsample_convs.{i}')
        for block in (f'encoder.fpn_blocks.{i}', f'encoder.pan_blocks.{i}'):
            yield from normed(f'{block}.conv1')
            yield from normed(f'{block}.conv2')
            for j in range(bottlenecks):
                yield from normed(f'{block}.bottlenecks.{j}.conv1')
                yield from normed(f'{block}.bottlenecks.{j}.conv2')
            if third:
                yield from normed(f'{block}.conv3')


def aggregated(bottlenecks):
    for i in range(2):
        yield from normed(f'encoder.lateral_convs.{i}')
        yield from normed(f'encoder.downsample_convs.{i}.0.cv1')
        yield from normed(f'encoder.downsample_convs.{i}.0.cv2')
        for block in (f'encoder.fpn_blocks.{i}', f'encoder.pan_blocks.{i}'):
            yield from normed(f'{block}.cv1')
            yield from normed(f'{block}.cv4')
            for part in ('cv2', 'cv3'):
                yield from normed(f'{block}.{part}.0.conv1')
                yield from normed(f'{block}.{part}.0.conv2')
                for j in range(bottlenecks):
                    yield from normed(f'{block}.{part}.0.bottlenecks.{j}.conv1')
                    yield from normed(f'{block}.{part}.0.bottlenecks.{j}.conv2')
                yield from normed(f'{block}.{part}.1')


def decoder(layers, second=False, fine=False):
    yield from ('decoder.anchors', 'decoder.valid_mask', 'decoder.denoising_class_embed.weight')
    if not fine:
        yield from (name for i in range(3) for name in normed(f'decoder.input_proj.{i}'))
    for place in ('proj', 'norm') if second else ('0', '1'):
        yield from several(f'decoder.enc_output.{place}', LINEAR)
    yield from several('decoder.enc_score_head', LINEAR)
    yield from mlp('decoder.enc_bbox_head', 3)
    yield from mlp('decoder.query_pos_head', 2)
    for i in range(layers):
        layer = f'decoder.decoder.layers.{i}'
        yield from attention(f'{layer}.self_attn')
        points = ('sampling_offsets', 'attention_weights') + (() if fine else ('value_proj', 'output_proj'))
        yield from (name for part in points for name in several(f'{layer}.cross_attn.{part}', LINEAR))
        if second:
            yield f'{layer}.cross_attn.num_points_scale'
        for part in ('linear1', 'linear2', 'norm1', 'norm3', *(() if fine else ('norm2',))):
            yield from several(f'{layer}.{part}', LINEAR)
        yield from several(f'decoder.dec_score_head.{i}', LINEAR)
        yield from mlp(f'decoder.dec_bbox_head.{i}', 3)
        if fine:
            yield from several(f'{layer}.gateway.gate', LINEAR)
            yield from several(f'{layer}.gateway.norm', LINEAR)
            yield from mlp(f'decoder.decoder.lqe_layers.{i}.reg_conf', 2)
    if fine:
        yield from mlp('decoder.pre_bbox_head', 3)
        yield from ('decoder.up', 'decoder.reg_scale', 'decoder.decoder.up', 'decoder.decoder.reg_scale')


def plain_transformer(blocks, scales, inputs, groups):
    vit = 'backbone.0.encoder'
    yield f'{vit}.pos_embed'
    yield from several(f'{vit}.patch_embed.proj', LINEAR)
    for i in range(blocks):
        block = f'{vit}.blocks.{i}'
        yield from (f'{block}.gamma_1', f'{block}.gamma_2', f'{block}.attn.q_bias', f'{block}.attn.v_bias')
        yield f'{block}.attn.qkv.weight'
        for part in ('attn.proj', 'norm1', 'norm2', 'mlp.fc1', 'mlp.fc2'):
            yield from several(f'{block}.{part}', LINEAR)
    projector = 'backbone.0.projector'
    for i, scale in enumerate(scales):
        for j in range(inputs):
            if scale == 2:
                yield from several(f'{projector}.stages_sampling.{i}.{j}.0', LINEAR)
            if scale == 0.5:
                yield from normed(f'{projector}.stages_sampling.{i}.{j}.0', norm='bn')
        stage = f'{projector}.stages.{i}'
        for part in ('cv1', 'cv2', *(f'm.{j}.cv{k}' for j in range(3) for k in (1, 2))):
            yield from normed(f'{stage}.0.{part}', norm='bn')
        yield from several(f'{stage}.1', LINEAR)
    yield from ('refpoint_embed.weight', 'query_feat.weight')
    yield from several('class_embed', LINEAR)
    yield from mlp('bbox_embed', 3)
    for i in range(groups):
        for part in ('enc_output', 'enc_output_norm', 'enc_out_class_embed'):
            yield from several(f'transformer.{part}.{i}', LINEAR)
        yield from mlp(f'transformer.enc_out_bbox_embed.{i}', 3)
    yield from several('transformer.decoder.norm', LINEAR)
    yield from mlp('transformer.decoder.ref_point_head', 2)
    for i in range(3):
        layer = f'transformer.decoder.layers.{i}'
        yield from attention(f'{layer}.self_attn')
        for part in ('sampling_offsets', 'attention_weights', 'value_proj', 'output_proj'):
            yield from several(f'{layer}.cross_attn.{part}', LINEAR)
        for part in ('linear1', 'linear2', 'norm1', 'norm2', 'norm3'):
            yield from several(f'{layer}.{part}', LINEAR)


def rtdetr(depths, branches, bottlenecks, layers, second, third):
    return [
        *plain_resnet(depths, branches),
        *cells(second),
        *pyramid(bottlenecks, third),
        *decoder(layers, second),
    ]


RELEASES = {
    'RT-DETR-R18': ('rtdetr/rtdetr_r18vd_4xb4-72e_coco.py', rtdetr([2, 2, 2, 2], 'ab', 3, 3, False, True)),
    'RT-DETR-R50': ('rtdetr/rtdetr_r50vd_4xb4-72e_coco.py', rtdetr([3, 4, 6, 3], 'abc', 3, 6, False, False)),
    'RT-DETRv2-R18': ('rtdetrv2/rtdetrv2_r18vd_4xb4-120e_coco.py', rtdetr([2, 2, 2, 2], 'ab', 3, 3, True, True)),
    'D-FINE-S': (
        'dfine/dfine_hgnetv2-s_8xb4-124e_coco.py',
        [
            *hgnet([1, 1, 2, 1], [False, False, True, True], 3),
            *cells(True),
            *aggregated(1),
            *decoder(3, True, True),
        ],
    ),
    'DEIM-S': ('deim/deim_dfine_hgnetv2-s_8xb4-132e_coco.py', None),
    'LW-DETR-tiny': ('lwdetr/lwdetr_tiny_8xb4-60e_coco.py', [*plain_transformer(6, [1], 3, 13)]),
    'LW-DETR-large': ('lwdetr/lwdetr_large_8xb4-60e_coco.py', [*plain_transformer(10, [2, 0.5], 4, 13)]),
}
LIBRARIES = {'rtdetr': 'RT-DETR', 'rtdetrv2': 'RT-DETR', 'dfine': 'D-FINE', 'deim': 'D-FINE', 'lwdetr': 'LW-DETR'}
RELEASES['DEIM-S'] = (RELEASES['DEIM-S'][0], RELEASES['D-FINE-S'][1])


@pytest.fixture(scope='module', params=RELEASES)
def release(request):
    """A model, the names of a release of it, and for each that is a weight of ours which one."""
    init_default_scope('mmdet')
    config, names = RELEASES[request.param]
    cfg = load_config(Path(__file__).parents[2] / 'configs' / config).model
    cfg.backbone.pop('init_cfg', None)
    model = MODELS.build(cfg)
    table = f'the release of {LIBRARIES[config.partition("/")[0]]}'
    numbers = OrderedDict((name, torch.tensor(i)) for i, name in enumerate(names))
    renamed = _rename(numbers, table, model.state_dict())
    return model, names, {names[number]: name for name, number in renamed.items() if name in model.state_dict()}, table


def test_every_weight_has_one_name(release):
    model, names, ours, _ = release
    assert len(set(names)) == len(names)
    assert sorted(ours.values()) == sorted(key for key in model.state_dict() if not key.endswith('num_batches_tracked'))
    computed = ('anchors', 'valid_mask', 'num_points_scale', 'up', 'reg_scale')
    assert {name for name in names if name not in ours} == {name for name in names if name.endswith(computed)}


def test_a_file_is_read(release, tmp_path):
    model, names, ours, table = release
    before = model.state_dict()
    weights = {name: torch.rand_like(before[ours[name]]) if name in ours else torch.zeros(1) for name in names}
    weights['decoder.unheard_of.weight'] = torch.zeros(1)
    content = {'model': weights, 'args': argparse.Namespace(lr=0.1), 'epoch': 3}
    if table != 'the release of LW-DETR':  # the moving average counts
        other = {name: torch.zeros_like(value) for name, value in weights.items()}
        content = {'ema': {'module': weights, 'updates': 5}, 'model': other, 'last_epoch': 3}
    torch.save(content, tmp_path / 'a release.pth')
    report = load_weights(model, read_checkpoint(tmp_path / 'a release.pth'))
    assert (report.missing, report.wrong_shape) == ([], [])
    assert report.unexpected == ['decoder.unheard_of.weight']
    assert report.key_map == table
    loaded = model.state_dict()
    assert all(torch.equal(loaded[own], weights[name]) for name, own in ours.items())
