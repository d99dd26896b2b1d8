"""Weights of other releases and older versions, loaded strictly into the networks that they are for."""

import pytest
import torch

from mmdet.apis import old_weights
from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.backbones import RegNet, ResNet, SwinTransformer


def values(*names, rows=2):
    return {name: torch.arange(rows * 3.0).reshape(rows, 3) + index for index, name in enumerate(names)}


def only_counts_are_missing(module, weights):
    missing, unexpected = module.load_state_dict(weights, strict=False)
    return not unexpected and all(name.endswith('num_batches_tracked') for name in missing)


def test_detectron_resnet():
    own = ResNet(50).state_dict()
    letters = {'conv1': '2a', 'conv2': '2b', 'conv3': '2c', 'bn1': '2a', 'bn2': '2b', 'bn3': '2c'}
    blobs = {'fc1000_w': torch.ones(3, 3)}
    for name, value in own.items():
        parts = name.split('.')
        if name.startswith('layer'):
            letter = '1' if parts[2] == 'downsample' else letters[parts[2]]
            theirs = f'res{int(parts[0][5:]) + 1}_{parts[1]}_branch{letter}'
            is_norm = 'bn' in parts[2] or parts[2:4] == ['downsample', '1']
        else:
            theirs, is_norm = 'conv1', parts[0] == 'bn1'
        stem = 'res_conv1_bn' if theirs == 'conv1' else f'{theirs}_bn'
        if parts[-1] in ('weight', 'bias'):
            suffix = {'weight': 's', 'bias': 'b'}[parts[-1]]
            blobs[f'{stem}_{suffix}' if is_norm else f'{theirs}_w'] = torch.rand_like(value)
    weights = old_weights.from_detectron(blobs, 50)
    assert only_counts_are_missing(ResNet(50), weights)
    assert weights['layer2.0.downsample.0.weight'] is blobs['res3_0_branch1_w']
    assert weights['layer1.1.bn2.bias'] is blobs['res2_1_branch2b_bn_b']
    assert weights['bn1.running_var'].eq(1).all() and weights['bn1.running_mean'].eq(0).all()
    with pytest.raises(UserKeyError, match='not a ResNet-101 of Detectron: it has no res4_6_branch2a_w'):
        old_weights.from_detectron(blobs, 101)


def test_pycls_regnet():
    own = RegNet('regnetx_400mf').state_dict()
    pairs = [('conv1.', 'stem.conv.'), ('bn1.', 'stem.bn.')]
    theirs = {'head.fc.weight': torch.ones(3, 3)}
    for name, value in own.items():
        if name.startswith('layer'):
            stage, block, part, *rest = name.split('.')
            if part == 'downsample':
                part, rest = {'0': 'proj', '1': 'bn'}[rest[0]], rest[1:]
            else:
                part = f'f.{"abc"[int(part[-1]) - 1]}{"_bn" if part.startswith("bn") else ""}'
            name = '.'.join([f's{stage[5:]}', f'b{int(block) + 1}', part, *rest])
        else:
            name = next(name.replace(ours, old, 1) for ours, old in pairs if name.startswith(ours))
        theirs[name] = torch.rand_like(value.float())
    weights = old_weights.from_pycls(theirs)
    assert set(weights) == set(own) and only_counts_are_missing(RegNet('regnetx_400mf'), weights)
    assert weights['layer3.1.conv2.weight'] is theirs['s3.b2.f.b.weight']
    with pytest.raises(UserKeyError, match='not a RegNet of pycls: its names are such as conv1'):
        old_weights.from_pycls(own)


@pytest.mark.parametrize('method, prefix', [('moco', 'module.encoder_q.'), ('swav', 'module.')])
def test_self_supervision(method, prefix):
    own = ResNet(18).state_dict()
    theirs = {prefix + name: value for name, value in own.items()}
    theirs |= values(
        'module.encoder_k.conv1.weight', 'module.queue', f'{prefix}fc.0.weight', 'module.prototypes.weight'
    )
    assert list(old_weights.from_self_supervision(theirs, method)) == list(own)
    with pytest.raises(UserValueError, match="moco or swav, not 'byol'"):
        old_weights.from_self_supervision(theirs, 'byol')


def test_detic():
    swin = SwinTransformer(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=4)
    rename = {'stages': 'layers', '.w_msa': '', 'ffn.layers.0.0': 'mlp.fc1', 'ffn.layers.1': 'mlp.fc2'}
    rename['projection'] = 'proj'
    theirs = {}
    for name, value in swin.state_dict().items():
        for ours, old in rename.items():
            name = name.replace(ours, old)
        theirs[f'backbone.bottom_up.{name}'] = value
    head, boxes = 'proposal_generator.centernet_head', 'roi_heads.box_predictor.1'
    theirs |= values(
        'backbone.fpn_lateral3.weight',
        'backbone.fpn_output5.bias',
        f'{head}.bbox_tower.3.weight',
        f'{head}.bbox_tower.4.bias',
        f'{head}.agn_hm.weight',
        f'{head}.bbox_pred.bias',
        f'{head}.scales.2.scale',
        'roi_heads.box_head.1.fc2.weight',
        f'{boxes}.cls_score.linear.weight',
        f'{boxes}.cls_score.zs_weight',
        f'{boxes}.bbox_pred.2.weight',
        'roi_heads.mask_head.mask_fcn1.weight',
        'pixel_mean',
    )
    found = old_weights.from_detic(theirs)
    backbone = {name.removeprefix('backbone.'): v for name, v in found.items() if name.startswith('backbone.')}
    assert only_counts_are_missing(swin, backbone)
    assert {name for name in found if not name.startswith('backbone.')} == {
        'neck.lateral_convs.0.conv.weight',
        'neck.fpn_convs.2.conv.bias',
        'rpn_head.reg_convs.1.conv.weight',
        'rpn_head.reg_convs.1.gn.bias',
        'rpn_head.conv_cls.weight',
        'rpn_head.conv_reg.bias',
        'rpn_head.scales.2.scale',
        'roi_head.bbox_head.1.shared_fcs.1.weight',
        'roi_head.bbox_head.1.fc_cls.linear.weight',
        'roi_head.bbox_head.1.fc_cls.zs_weight',
        'roi_head.bbox_head.1.fc_reg.2.weight',
        'roi_head.mask_head.convs.0.conv.weight',
    }
    with pytest.raises(UserKeyError, match='not a Detic'):
        old_weights.from_detic(swin.state_dict())


def rows(count):
    return torch.arange(float(count))


def test_classes_of_version_1_have_the_background_first():
    old = {
        'rpn_head.rpn_reg.weight': rows(12),
        'rpn_head.rpn_cls.bias': rows(3),
        'bbox_head.fc_cls.bias': rows(3),
        'bbox_head.fc_reg.bias': rows(12),
        'mask_head.conv_logits.bias': rows(3),
        'backbone.conv1.weight': rows(5),
    }
    new = old_weights.upgrade_version(old, num_classes=3)
    assert new['roi_head.bbox_head.fc_cls.bias'].tolist() == [1, 2, 0]
    assert new['roi_head.bbox_head.fc_reg.bias'].tolist() == list(range(4, 12))
    assert new['roi_head.mask_head.conv_logits.bias'].tolist() == [1, 2]
    assert new['rpn_head.rpn_cls.bias'].tolist() == [0, 1, 2]  # a sigmoid: no background
    assert new['backbone.conv1.weight'] is old['backbone.conv1.weight']
    agnostic = old_weights.upgrade_version({**old, 'bbox_head.fc_reg.bias': rows(4)}, num_classes=3)
    assert agnostic['roi_head.bbox_head.fc_reg.bias'].tolist() == [0, 1, 2, 3]


def test_a_softmax_rpn_turns_before_2_5_alone():
    weights = {'rpn_head.rpn_reg.weight': rows(8), 'rpn_head.rpn_cls.bias': rows(4)}
    turned = old_weights.upgrade_version(weights, 81, (2, 4, 0))['rpn_head.rpn_cls.bias']
    assert turned.tolist() == [1, 0, 3, 2]
    assert old_weights.upgrade_version(weights, 81, (2, 5, 0))['rpn_head.rpn_cls.bias'].tolist() == [0, 1, 2, 3]
    heads = {'roi_head.bbox_head.fc_cls.bias': rows(3)}
    assert old_weights.upgrade_version(heads, 3, (2, 1, 0))['roi_head.bbox_head.fc_cls.bias'].tolist() == [0, 1, 2]


def test_retinanet_and_ssd_of_version_1():
    retina = {'bbox_head.retina_cls.bias': rows(2), 'bbox_head.cls_convs.0.weight': rows(3)}
    assert set(old_weights.upgrade_version(retina, 3)) == {
        'bbox_head.retina_cls.bias',
        'bbox_head.cls_convs.0.conv.weight',
    }
    ssd = {'bbox_head.cls_convs.0.weight': rows(6), 'bbox_head.reg_convs.0.weight': rows(8)}
    new = old_weights.upgrade_version(ssd, 3)
    assert new['bbox_head.cls_convs.0.weight'].tolist() == [1, 2, 0, 4, 5, 3]
    assert new['bbox_head.reg_convs.0.weight'].tolist() == list(range(8))


@pytest.mark.usefixtures('default_scope')
def test_ssd_before_2_14():
    from mmdet.config import load_config
    from mmdet.registry import MODELS

    own = MODELS.build(load_config('configs/ssd/ssd300_coco.py').model).state_dict()
    old = {}
    for name, value in own.items():
        parts = name.split('.')
        if name.startswith('neck.extra_layers'):
            name = f'backbone.extra.{2 * int(parts[2]) + int(parts[3])}.{parts[-1]}'
        elif name.startswith('neck.l2_norm'):
            name = 'backbone.l2_norm.weight'
        elif name.startswith('bbox_head.'):
            name = '.'.join([*parts[:3], parts[-1]])
        old[name] = value
    new = old_weights.upgrade_ssd(old)
    assert set(new) == set(own) and all(new[name] is own[name] for name in own)
    with pytest.raises(UserKeyError, match='not an SSD of a version before'):
        old_weights.upgrade_ssd(own)


def test_version_of():
    assert old_weights.version_of(dict(meta=dict(mmdet_version='2.4.0+abc'))) == (2, 4, 0)
    assert old_weights.version_of({}) == (0,)


def test_a_file_without_weights():
    with pytest.raises(UserValueError, match="holds no weights, only 'a'"):
        old_weights.tensors_of(dict(a=1))
