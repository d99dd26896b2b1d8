"""Weights of other releases and of older versions, as files of ours: what ``tools/model_converters`` do.

Each function takes and gives a state dict. Files are read by :func:`.checkpoint.read_file`, which runs no code in them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmdet.errors import UserKeyError, UserValueError
from mmdet.utils.key_maps import DETECTRON2, Weights, rename

ROI_PARTS = ('bbox_head', 'mask_head', 'bbox_roi_extractor', 'mask_roi_extractor', 'shared_head', 'semantic_head')
SOFTMAX = re.compile(r'.*\.fc_cls\.(weight|bias)')
SIGMOID = re.compile(r'.*\.(?:retina|fcos|fovea|conv)_cls\.(weight|bias)')


def tensors_of(content: Any, *keys: str) -> Weights:
    """The tensors of a dict, which may lie under one of ``keys``, the first of them that is there."""
    for key in keys:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise UserValueError(f'the file holds a {type(content).__name__}, not a dict of weights')
    found: Weights = OrderedDict()
    for name, value in content.items():
        if isinstance(name, bytes):
            name = name.decode()
        if hasattr(value, '__array__') and not isinstance(value, Tensor) and getattr(value, 'ndim', 0):
            value = torch.from_numpy(value)
        if isinstance(value, Tensor):
            found[name] = value
    if not found:
        raise UserValueError(f'the file holds no weights, only {", ".join(map(repr, list(content)[:8])) or "nothing"}')
    return found


def _some(renamed: Weights, weights: Weights, wanted: str) -> Weights:
    if not renamed:
        raise UserKeyError(f'the file is not {wanted}: its names are such as {", ".join(list(weights)[:3])}')
    return renamed


# --------------------------------------------------------------------------------------------------------------------
# Backbones of others
_PARTS = {'1': 'downsample.0', '2a': 'conv1', '2b': 'conv2', '2c': 'conv3'}
_NORMS = {'1': 'downsample.1', '2a': 'bn1', '2b': 'bn2', '2c': 'bn3'}


def from_detectron(blobs: Weights, depth: int) -> Weights:
    """A ResNet of Caffe2, whose norms are a scale and a shift: of mean 0 and variance 1."""
    blocks = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
    if depth not in blocks:
        raise UserValueError(f'depth must be 50 or 101, not {depth}')
    found: Weights = OrderedDict()
    stem = 'res_conv1_bn' if 'res_conv1_bn_s' in blobs else 'conv1_bn'
    places = [('conv1', stem, 'conv1', 'bn1')]
    for stage, count in enumerate(blocks[depth], 1):
        for block in range(count):
            for part in ('1', '2a', '2b', '2c') if block == 0 else ('2a', '2b', '2c'):
                theirs, ours = f'res{stage + 1}_{block}_branch{part}', f'layer{stage}.{block}'
                places.append((theirs, f'{theirs}_bn', f'{ours}.{_PARTS[part]}', f'{ours}.{_NORMS[part]}'))
    for conv, norm, our_conv, our_norm in places:
        missing = [name for name in (f'{conv}_w', f'{norm}_s', f'{norm}_b') if name not in blobs]
        if missing:
            raise UserKeyError(f'the file is not a ResNet-{depth} of Detectron: it has no {", ".join(missing)}')
        scale = blobs[f'{norm}_s']
        found[f'{our_conv}.weight'] = blobs[f'{conv}_w']
        found[f'{our_norm}.weight'], found[f'{our_norm}.bias'] = scale, blobs[f'{norm}_b']
        found[f'{our_norm}.running_mean'] = torch.zeros_like(scale)
        found[f'{our_norm}.running_var'] = torch.ones_like(scale)
    return found


_PYCLS_BLOCK = r's(\d)\.b(\d+)'
_PYCLS = [
    (r'stem\.conv\.(.+)', r'conv1.\1'),
    (r'stem\.bn\.(.+)', r'bn1.\1'),
    (rf'{_PYCLS_BLOCK}\.proj\.(.+)', r'layer\1.{\2-1}.downsample.0.\3'),
    (rf'{_PYCLS_BLOCK}\.bn\.(.+)', r'layer\1.{\2-1}.downsample.1.\3'),
    *[
        row
        for number, letter in enumerate('abc', 1)
        for row in (
            (rf'{_PYCLS_BLOCK}\.f\.{letter}\.(.+)', rf'layer\1.{{\2-1}}.conv{number}.\3'),
            (rf'{_PYCLS_BLOCK}\.f\.{letter}_bn\.(.+)', rf'layer\1.{{\2-1}}.bn{number}.\3'),
        )
    ],
]
_RESNET = r'((?:conv1|bn1|layer\d)\..+)'
_SELF_SUPERVISED = {'moco': r'module\.encoder_q\.' + _RESNET, 'swav': r'module\.' + _RESNET}


def from_pycls(weights: Weights) -> Weights:
    """A RegNetX of pycls, without its classifier."""
    return _some(rename(weights, _PYCLS), weights, 'a RegNet of pycls')


def from_self_supervision(weights: Weights, method: str) -> Weights:
    """The ResNet of MoCo, the one that is trained, or of SwAV, without projections and prototypes."""
    if method not in _SELF_SUPERVISED:
        raise UserValueError(f'--selfsup must be moco or swav, not {method!r}')
    return _some(rename(weights, [(_SELF_SUPERVISED[method], r'\1')]), weights, f'a ResNet of {method}')


# --------------------------------------------------------------------------------------------------------------------
# Detectors of others
def from_detic(weights: Weights) -> Weights:
    """Detic, as the project Detic_new of MMDetection 3.x names it: Swin, FPN, CenterNet's proposals, a cascade."""
    from mmdet.models.backbones.swin import swin_converter

    prefix = 'backbone.bottom_up.'
    swin = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    found: Weights = OrderedDict()
    if any(name.startswith('layers.') for name in swin):
        found.update(swin_converter(swin))
    head, tower = r'proposal_generator\.centernet_head', r'(?:bbox|cls|share)_tower'
    predictor = r'roi_heads\.box_predictor(?:\.(\d))?'
    rows = [
        (rf'{head}\.bbox_tower\.(0|3|6|9)\.(.+)', r'rpn_head.reg_convs.{\1/3}.conv.\2'),
        (rf'{head}\.bbox_tower\.(1|4|7|10)\.(.+)', r'rpn_head.reg_convs.{\1/3}.gn.\2'),
        (rf'{head}\.cls_tower\.(0|3|6|9)\.(.+)', r'rpn_head.cls_convs.{\1/3}.conv.\2'),
        (rf'{head}\.cls_tower\.(1|4|7|10)\.(.+)', r'rpn_head.cls_convs.{\1/3}.gn.\2'),
        (rf'{head}\.(?:agn_hm|cls_logits)\.(.+)', r'rpn_head.conv_cls.\1'),
        (rf'{head}\.bbox_pred\.(.+)', r'rpn_head.conv_reg.\1'),
        (rf'{head}\.scales\.(\d)\.scale', r'rpn_head.scales.\1.scale'),
        (rf'{predictor}\.cls_score\.(linear\..+|zs_weight)', r'roi_head.bbox_head.\1.fc_cls.\2'),
        (rf'{predictor}\.cls_bias', r'roi_head.bbox_head.\1.fc_cls.cls_bias'),
        (rf'{predictor}\.bbox_pred\.(\d\..+)', r'roi_head.bbox_head.\1.fc_reg.\2'),
        *DETECTRON2,
        (r'backbone\.bottom_up\.base\.' + _RESNET, r'backbone.\1'),  # timm's, of the ResNets on ImageNet-21k
    ]
    levels = [int(m[1]) for m in (re.match(r'backbone\.fpn_lateral(\d)', name) for name in weights) if m]
    found.update(rename(weights, rows, LOW=min(levels, default=3)))
    if not any(re.match(rf'{head}\.(?:{tower}|agn_hm)', name) for name in weights):
        raise UserKeyError(f'the file is not a Detic: its names are such as {", ".join(list(weights)[:3])}')
    return OrderedDict((name.replace('bbox_head..', 'bbox_head.'), value) for name, value in found.items())


# --------------------------------------------------------------------------------------------------------------------
# Older versions of MMDetection
def version_of(checkpoint: Mapping) -> tuple[int, ...]:
    """The version of MMDetection in a checkpoint's ``meta``; (0,) where none is said."""
    meta = checkpoint.get('meta')
    found = re.match(r'(\d+)\.(\d+)(?:\.(\d+))?', str(meta.get('mmdet_version', '')) if isinstance(meta, dict) else '')
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def _background_to_the_end(value: Tensor, num_classes: int) -> Tensor:
    """Rows (anchors * num_classes), the background first, with the background last; else as it is."""
    if len(value) % num_classes:
        return value
    return value.unflatten(0, (-1, num_classes)).roll(-1, 1).flatten(0, 1)


def upgrade_version(weights: Weights, num_classes: int, version: tuple[int, ...] = (0,)) -> Weights:
    """Weights of MMDetection 1.x and 2.0 to 2.4 as later versions have them.

    Before 2.0 the background was the first class, a box head regressed it, too, and masks had one of it; before 2.5 it
    came first in an RPN with softmax. What a detector is, is seen from its names, not from the config in the file.

    Args:
        num_classes: With the background, 81 for COCO.
    """
    if num_classes < 2:
        raise UserValueError(f'--num-classes counts the background, too: it is 2 or more, not {num_classes}')
    rpn_anchors = len(weights['rpn_head.rpn_reg.weight']) // 4 if 'rpn_head.rpn_reg.weight' in weights else 0
    two_stage = rpn_anchors > 0 or any(SOFTMAX.fullmatch(name) for name in weights)
    is_ssd = any(re.fullmatch(r'bbox_head\.cls_convs\.\d(\.0)?\.weight', name) for name in weights) and not any(
        SIGMOID.fullmatch(name) for name in weights
    )
    is_retina = any(name.startswith('bbox_head.retina_cls.') for name in weights)
    found: Weights = OrderedDict()
    for name, value in weights.items():
        new = name
        if two_stage and name.partition('.')[0] in ROI_PARTS:
            new = f'roi_head.{name}'
        elif is_retina:  # ConvModules since 0.6
            new = re.sub(r'((?:cls|reg)_convs\.\d)\.(weight|bias)$', r'\1.conv.\2', name)
        if version < (2, 0):
            if SOFTMAX.fullmatch(new) or (is_ssd and re.match(r'bbox_head\.cls_convs\.', new)):
                value = _background_to_the_end(value, num_classes)
            elif re.search(r'\.fc_reg\.(weight|bias)$', new) and len(value) == 4 * num_classes:
                value = value[4:]
            elif re.search(r'\.conv_logits\.(weight|bias)$', new) and len(value) == num_classes:
                value = value[1:]
        if version < (2, 5) and re.search(r'rpn_cls\.(weight|bias)$', new) and len(value) == 2 * rpn_anchors:
            value = _background_to_the_end(value, 2)
        found[new] = value
    return found


def upgrade_ssd(weights: Weights) -> Weights:
    """SSD as it was before 2.14, whose extra layers and norm lay in the backbone."""
    rows = [
        *[(rf'backbone\.extra\.(\d*[{parity}])\.(.+)', rf'neck.extra_layers.{{\1/2}}.{i}.conv.\2')
          for i, parity in enumerate(('02468', '13579'))],
        (r'(?:backbone|neck)\.l2_norm\.weight', r'neck.l2_norm.weight'),
        (r'bbox_head\.(cls|reg)_convs\.(\d)\.(weight|bias)', r'bbox_head.\1_convs.\2.0.\3'),
        (r'(.+)', r'\1'),
    ]  # fmt: skip
    if not any(name.startswith('backbone.extra.') for name in weights):
        raise UserKeyError(
            'the file is not an SSD of a version before 2.14: it has no backbone.extra, but '
            + ', '.join(list(weights)[:3])
        )
    return rename(weights, rows)
