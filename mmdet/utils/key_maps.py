"""Names of weights in other libraries' detectors and backbones, as the names of ours.

One table of (pattern, replacement) per library. Of the patterns that match a whole name the first whose replacement the
model has counts, or else the first; names that none matches are dropped of torchvision and detectron2 (anchors, pixel
means), and stay of others. Where the layout differs too, ``_LAYOUTS`` says how: torchvision puts the background first
and counts COCO's classes by their ids of 1 to 90, as `transformers` does, detectron2's RetinaNet has anchors by size,
then ratio.

A backbone alone finds its weights in files of whole detectors, too.
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from mmdet.utils.hub_names import HUB_TABLES
from mmdet.utils.hub_names_grounding import GROUNDING_TABLES
from mmdet.utils.hub_names_realtime import REALTIME_TABLES

Weights = dict[str, Tensor]
Layout = Callable[[Tensor, str, Weights], Tensor]

# The ids that COCO's 80 classes have among 1 to 90
COCO_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def _both_towers(theirs: tuple[str, str], rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """``rows`` for the towers of classes and of boxes: TOWER stands for their name of one, and for ours."""
    return [
        (pattern.replace('TOWER', tower), replacement.replace('TOWER', own))
        for tower, own in zip(theirs, ('cls_convs', 'reg_convs'), strict=True)
        for pattern, replacement in rows
    ]


_TORCHVISION_TOWERS = ('classification_head', 'regression_head')
_TORCHVISION = [
    (r'backbone\.body\.(.+)', r'backbone.\1'),
    # the plain convolution of older files, the Conv2dNormActivation of newer ones, and its norm
    (r'backbone\.fpn\.inner_blocks\.(\d+)(?:\.0)?\.(weight|bias)', r'neck.lateral_convs.\1.conv.\2'),
    (r'backbone\.fpn\.inner_blocks\.(\d+)\.1\.(.+)', r'neck.lateral_convs.\1.bn.\2'),
    (r'backbone\.fpn\.layer_blocks\.(\d+)(?:\.0)?\.(weight|bias)', r'neck.fpn_convs.\1.conv.\2'),
    (r'backbone\.fpn\.layer_blocks\.(\d+)\.1\.(.+)', r'neck.fpn_convs.\1.bn.\2'),
    (r'backbone\.fpn\.extra_blocks\.p6\.(.+)', r'neck.fpn_convs.3.conv.\1'),
    (r'backbone\.fpn\.extra_blocks\.p7\.(.+)', r'neck.fpn_convs.4.conv.\1'),
    (r'rpn\.head\.conv\.(\d+)\.0\.(.+)', r'rpn_head.rpn_conv.\1.conv.\2'),
    (r'rpn\.head\.conv\.0\.0\.(.+)', r'rpn_head.rpn_conv.\1'),  # of one convolution
    (r'rpn\.head\.conv\.(weight|bias)', r'rpn_head.rpn_conv.\1'),
    (r'rpn\.head\.cls_logits\.(.+)', r'rpn_head.rpn_cls.\1'),
    (r'rpn\.head\.bbox_pred\.(.+)', r'rpn_head.rpn_reg.\1'),
    (r'roi_heads\.box_head\.fc6\.(.+)', r'roi_head.bbox_head.shared_fcs.0.\1'),
    (r'roi_heads\.box_head\.fc7\.(.+)', r'roi_head.bbox_head.shared_fcs.1.\1'),
    (r'roi_heads\.box_head\.(\d)\.0\.(.+)', r'roi_head.bbox_head.shared_convs.\1.conv.\2'),
    (r'roi_heads\.box_head\.(\d)\.1\.(.+)', r'roi_head.bbox_head.shared_convs.\1.bn.\2'),
    (r'roi_heads\.box_head\.5\.(weight|bias)', r'roi_head.bbox_head.shared_fcs.0.\1'),
    (r'roi_heads\.box_predictor\.cls_score\.(.+)', r'roi_head.bbox_head.fc_cls.\1'),
    (r'roi_heads\.box_predictor\.bbox_pred\.(.+)', r'roi_head.bbox_head.fc_reg.\1'),
    (r'roi_heads\.mask_head\.mask_fcn(\d)\.(.+)', r'roi_head.mask_head.convs.{\1-1}.conv.\2'),
    (r'roi_heads\.mask_head\.(\d)\.0\.(.+)', r'roi_head.mask_head.convs.\1.conv.\2'),
    (r'roi_heads\.mask_head\.(\d)\.1\.(.+)', r'roi_head.mask_head.convs.\1.bn.\2'),
    (r'roi_heads\.mask_predictor\.conv5_mask\.(.+)', r'roi_head.mask_head.upsample.\1'),
    (r'roi_heads\.mask_predictor\.mask_fcn_logits\.(.+)', r'roi_head.mask_head.conv_logits.\1'),
]
_TORCHVISION_RETINANET = [
    *_both_towers(
        _TORCHVISION_TOWERS,
        [
            (r'head\.TOWER\.conv\.(\d)\.0\.(.+)', r'bbox_head.TOWER.\1.conv.\2'),
            (r'head\.TOWER\.conv\.(\d)\.1\.(.+)', r'bbox_head.TOWER.\1.gn.\2'),
            # of files older than version 2, which have convolution and ReLU in turn
            (r'head\.TOWER\.conv\.(\d)\.(weight|bias)', r'bbox_head.TOWER.{\1/2}.conv.\2'),
        ],
    ),
    (r'head\.classification_head\.cls_logits\.(.+)', r'bbox_head.retina_cls.\1'),
    (r'head\.regression_head\.bbox_reg\.(.+)', r'bbox_head.retina_reg.\1'),
    *_TORCHVISION,
]
_TORCHVISION_FCOS = [
    *_both_towers(
        _TORCHVISION_TOWERS,
        [  # convolution, group norm and ReLU in turn
            (r'head\.TOWER\.conv\.(0|3|6|9)\.(.+)', r'bbox_head.TOWER.{\1/3}.conv.\2'),
            (r'head\.TOWER\.conv\.(1|4|7|10)\.(.+)', r'bbox_head.TOWER.{\1/3}.gn.\2'),
        ],
    ),
    (r'head\.classification_head\.cls_logits\.(.+)', r'bbox_head.conv_cls.\1'),
    (r'head\.regression_head\.bbox_reg\.(.+)', r'bbox_head.conv_reg.\1'),
    (r'head\.regression_head\.bbox_ctrness\.(.+)', r'bbox_head.conv_centerness.\1'),
    *_TORCHVISION,
]
_TORCHVISION_SSD = [
    (r'backbone\.features\.(\d+)\.(.+)', r'backbone.features.\1.\2'),
    (r'backbone\.scale_weight', r'neck.l2_norm.weight'),
    (r'backbone\.extra\.0\.(1|3|5)\.(.+)', r'backbone.features.{\1+23}.\2'),  # conv5
    (r'backbone\.extra\.0\.7\.(1|3)\.(.+)', r'backbone.features.{\1+30}.\2'),  # fc6, fc7
    (r'backbone\.extra\.(\d)\.0\.(.+)', r'neck.extra_layers.{\1-1}.0.conv.\2'),
    (r'backbone\.extra\.(\d)\.2\.(.+)', r'neck.extra_layers.{\1-1}.1.conv.\2'),
    (r'head\.classification_head\.module_list\.(\d)\.(.+)', r'bbox_head.cls_convs.\1.0.\2'),
    (r'head\.regression_head\.module_list\.(\d)\.(.+)', r'bbox_head.reg_convs.\1.0.\2'),
]
DETECTRON2 = [
    (r'(?:backbone\.bottom_up|backbone)\.stem\.conv1\.weight', r'backbone.conv1.weight'),
    (r'(?:backbone\.bottom_up|backbone)\.stem\.conv1\.norm\.(.+)', r'backbone.bn1.\1'),
    (
        r'(?:backbone\.bottom_up|backbone)\.res(\d)\.(\d+)\.shortcut\.weight',
        r'backbone.layer{\1-1}.\2.downsample.0.weight',
    ),
    (
        r'(?:backbone\.bottom_up|backbone)\.res(\d)\.(\d+)\.shortcut\.norm\.(.+)',
        r'backbone.layer{\1-1}.\2.downsample.1.\3',
    ),
    (r'(?:backbone\.bottom_up|backbone)\.res(\d)\.(\d+)\.conv(\d)\.weight', r'backbone.layer{\1-1}.\2.conv\3.weight'),
    (r'(?:backbone\.bottom_up|backbone)\.res(\d)\.(\d+)\.conv(\d)\.norm\.(.+)', r'backbone.layer{\1-1}.\2.bn\3.\4'),
    # the last stage is the head of the regions in R50-C4
    (r'roi_heads\.res5\.(\d+)\.shortcut\.weight', r'roi_head.shared_head.layer4.\1.downsample.0.weight'),
    (r'roi_heads\.res5\.(\d+)\.shortcut\.norm\.(.+)', r'roi_head.shared_head.layer4.\1.downsample.1.\2'),
    (r'roi_heads\.res5\.(\d+)\.conv(\d)\.weight', r'roi_head.shared_head.layer4.\1.conv\2.weight'),
    (r'roi_heads\.res5\.(\d+)\.conv(\d)\.norm\.(.+)', r'roi_head.shared_head.layer4.\1.bn\2.\3'),
    # ViTDet: a pyramid whose levels are apart, and norms after the convolutions of the heads
    (r'backbone\.net\.(.+)', r'backbone.\1'),
    (r'backbone\.simfp_2\.([013])\.(weight|bias)', r'neck.fpn1.\1.\2'),
    (r'backbone\.simfp_3\.0\.(weight|bias)', r'neck.fpn2.0.\1'),
    *[
        (rf'backbone\.simfp_{level}\.{first + place}\.{theirs}', rf'neck.{convs}.{level - 2}.{ours}')
        for level, first in ((2, 4), (3, 1), (4, 0), (5, 1))
        for place, convs in enumerate(('lateral_convs', 'fpn_convs'))
        for theirs, ours in (('weight', 'conv.weight'), (r'norm\.(.+)', r'ln.\1'))
    ],
    (r'proposal_generator\.rpn_head\.conv\.conv(\d)\.(.+)', r'rpn_head.rpn_conv.\1.conv.\2'),
    *[
        (rf'roi_heads\.{theirs}(\d)\.{kind}', rf'roi_head.{ours}.{{\1-1}}.{name}')
        for theirs, ours in (
            (r'box_head\.conv', r'bbox_head.shared_convs'),
            (r'mask_head\.mask_fcn', r'mask_head.convs'),
        )
        for kind, name in (('weight', 'conv.weight'), (r'norm\.(.+)', r'ln.\2'))
    ],
    (r'roi_heads\.box_head\.(\d)\.conv(\d)\.weight', r'roi_head.bbox_head.\1.shared_convs.{\2-1}.conv.weight'),
    (r'roi_heads\.box_head\.(\d)\.conv(\d)\.norm\.(.+)', r'roi_head.bbox_head.\1.shared_convs.{\2-1}.ln.\3'),
    (r'backbone\.fpn_lateral(\d)\.(.+)', r'neck.lateral_convs.{\1-LOW}.conv.\2'),
    (r'backbone\.fpn_output(\d)\.(.+)', r'neck.fpn_convs.{\1-LOW}.conv.\2'),
    (r'backbone\.top_block\.p(\d)\.(.+)', r'neck.fpn_convs.{\1-3}.conv.\2'),
    (r'proposal_generator\.rpn_head\.conv\.(weight|bias)', r'rpn_head.rpn_conv.\1'),
    (r'proposal_generator\.rpn_head\.objectness_logits\.(.+)', r'rpn_head.rpn_cls.\1'),
    (r'proposal_generator\.rpn_head\.anchor_deltas\.(.+)', r'rpn_head.rpn_reg.\1'),
    (r'roi_heads\.box_head\.fc(\d)\.(.+)', r'roi_head.bbox_head.shared_fcs.{\1-1}.\2'),
    (r'roi_heads\.box_predictor\.cls_score\.(.+)', r'roi_head.bbox_head.fc_cls.\1'),
    (r'roi_heads\.box_predictor\.bbox_pred\.(.+)', r'roi_head.bbox_head.fc_reg.\1'),
    (r'roi_heads\.box_head\.(\d)\.fc(\d)\.(.+)', r'roi_head.bbox_head.\1.shared_fcs.{\2-1}.\3'),
    (r'roi_heads\.box_predictor\.(\d)\.cls_score\.(.+)', r'roi_head.bbox_head.\1.fc_cls.\2'),
    (r'roi_heads\.box_predictor\.(\d)\.bbox_pred\.(.+)', r'roi_head.bbox_head.\1.fc_reg.\2'),
    (r'roi_heads\.mask_head\.mask_fcn(\d)\.(.+)', r'roi_head.mask_head.convs.{\1-1}.conv.\2'),
    (r'roi_heads\.mask_head\.deconv\.(.+)', r'roi_head.mask_head.upsample.\1'),
    (r'roi_heads\.mask_head\.predictor\.(.+)', r'roi_head.mask_head.conv_logits.\1'),
    *_both_towers(('cls_subnet', 'bbox_subnet'), [(r'head\.TOWER\.(\d)\.(.+)', r'bbox_head.TOWER.{\1/2}.conv.\2')]),
    (r'head\.cls_score\.(.+)', r'bbox_head.retina_cls.\1'),
    (r'head\.bbox_pred\.(.+)', r'bbox_head.retina_reg.\1'),
]


# --------------------------------------------------------------------------------------------------------------------
# Layouts: the value as it is, the name that it is for and the tensors of the model -> the value as it must be
def _foreground(per_class: int) -> Layout:
    """Classes without a background in ours, ``per_class`` rows each."""

    def pick(value: Tensor, name: str, own: Weights) -> Tensor:
        return _rows(value, own[name], per_class, background=False)

    return pick


def _background_last(value: Tensor, name: str, own: Weights) -> Tensor:
    return _rows(value, own[name], 1, background=True)


def _rows(value: Tensor, target: Tensor, per_class: int, background: bool) -> Tensor:
    """Rows (anchors * classes * per_class) of torchvision in our order of classes."""
    if len(value) == len(target) and not background:
        return value
    for theirs, ids in _class_tables(value, per_class):
        ours = len(ids) + background
        anchors = len(value) // (theirs * per_class)
        if len(target) == anchors * ours * per_class:
            table = torch.tensor([*ids, 0] if background else ids)
            split = value.reshape(anchors, theirs, per_class, *value.shape[1:])
            return split[:, table].reshape(target.shape[0], *value.shape[1:])
    return value


def _class_tables(value: Tensor, per_class: int):
    """Possible numbers of classes, background included, with the ids to keep."""
    rows = len(value) // per_class
    if rows % 91 == 0:
        yield 91, COCO_IDS
    for anchors in (1, 9, 3, 4, 6):
        if rows % anchors == 0 and rows // anchors > 1:
            yield rows // anchors, list(range(1, rows // anchors))


def _ratio_major(value: Tensor, name: str, own: Weights) -> Tensor:
    """detectron2's nine anchors (size, ratio) as ours (ratio, size)."""
    if len(value) % 9:
        return value
    split = value.reshape(3, 3, len(value) // 9, *value.shape[1:])
    return split.transpose(0, 1).reshape(value.shape)


def _classes_by_ids(value: Tensor, name: str, own: Weights) -> Tensor:
    """The rows of COCO's 80 classes, of 91 by the ids of COCO; a row of no object may follow in both."""
    extra = len(own[name]) - 80
    if extra not in (0, 1) or len(value) != 91 + extra:
        return value
    rows = [*COCO_IDS, 91][: 80 + extra]
    branch = re.search(r'cls_branches\.(\d+)', name)
    is_last = branch and f'bbox_head.cls_branches.{int(branch.group(1)) + 1}.weight' not in own
    if is_last and 'memory_trans_fc.weight' in own:
        rows[0] = 0  # the encoder's branch, whose first row says whether there is an object of any class
    return value[torch.tensor(rows)]


def _vector(value: Tensor, name: str, own: Weights) -> Tensor:
    """The one number of a branch for tokens, which has no axis in theirs."""
    return value.reshape(1) if value.dim() == 0 else _classes_by_ids(value, name, own)


def _known_labels(value: Tensor, name: str, own: Weights) -> Tensor:
    """Without the row after the last class, which stands for padding."""
    return value[: len(own[name])] if len(value) == len(own[name]) + 1 else value


def _channel_first_merging(value: Tensor, name: str, own: Weights) -> Tensor:
    """Four neighbours that are merged as (column, row, channel) of the last axis; ours are (channel, row, column)."""
    return value.unflatten(-1, (2, 2, -1)).transpose(-1, -3).flatten(-3)


_ANY = r'\.(?:weight|bias)'
_SWIN_MERGING = (rf'(?:backbone\.)?stages\.\d\.downsample\.(?:norm|reduction){_ANY}', _channel_first_merging)
_PADDING_LABEL = (r'dn_query_generator\.label_embedding\.weight', _known_labels)
_LAYOUTS: dict[str, list[tuple[str, Layout]]] = {
    'torchvision RetinaNet': [(rf'bbox_head\.retina_cls{_ANY}', _foreground(1))],
    'torchvision FCOS': [(rf'bbox_head\.conv_cls{_ANY}', _foreground(1))],
    'torchvision SSD': [(rf'bbox_head\.cls_convs\.\d\.0{_ANY}', _background_last)],
    'torchvision R-CNN': [
        (rf'roi_head\.bbox_head\.fc_cls{_ANY}', _background_last),
        (rf'roi_head\.bbox_head\.fc_reg{_ANY}', _foreground(4)),
        (rf'roi_head\.mask_head\.conv_logits{_ANY}', _foreground(1)),
    ],
    'detectron2': [(rf'bbox_head\.retina_(?:cls|reg){_ANY}', _ratio_major)],
    'transformers': [
        (rf'bbox_head\.(?:fc_cls|cls_branches\.\d+){_ANY}', _vector),
        _SWIN_MERGING,
        _PADDING_LABEL,
    ],
}
_TABLES = {
    'torchvision R-CNN': _TORCHVISION,  # first: the next two contain it, and the first of equals is taken
    'torchvision RetinaNet': _TORCHVISION_RETINANET,
    'torchvision FCOS': _TORCHVISION_FCOS,
    'torchvision SSD': _TORCHVISION_SSD,
    'detectron2': DETECTRON2,
    **HUB_TABLES,
    **GROUNDING_TABLES,
    **REALTIME_TABLES,
}


def translate_state_dict(weights: Weights, own: Weights) -> tuple[OrderedDict[str, Tensor], str | None]:
    """Rename weights with the map that gives most names of ``own``.

    Returns:
        The weights and the name of the library that they came from, or the weights unchanged and None when half of
        ``own`` is among them, maybe as the backbone of a detector, or no map gives more names than they have.
    """
    best, source, most = OrderedDict(weights), None, sum(name in own for name in weights)
    if max(most, sum(f'backbone.{name}' in weights for name in own)) * 2 >= len(own):
        return best, None
    for library in _TABLES:
        renamed = _rename(weights, library, own)
        count = sum(name in own for name in renamed)
        if count > most:
            best, source, most = renamed, library, count
    if source is None:
        return best, None
    if (
        source in HUB_TABLES or source in GROUNDING_TABLES
    ):  # which few files of transformers hold, and the size of the windows says
        best.update((name, value) for name, value in own.items() if name.endswith('.relative_position_index'))
    layouts = _LAYOUTS.get(source, _LAYOUTS['transformers'])
    for name, value in best.items():
        for pattern, layout in layouts:
            if name in own and re.fullmatch(pattern, name):
                best[name] = layout(value, name, own)
    return best, source


def rename(weights: Weights, rows: list[tuple[str, str]], **numbers: int) -> OrderedDict[str, Tensor]:
    """Each weight under the name that the first pattern gives which matches its whole name; others are dropped.

    ``numbers`` are those that replacements such as ``{\\1-LOW}`` name.
    """
    patterns = [(re.compile(pattern), replacement) for pattern, replacement in rows]
    renamed: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in weights.items():
        matches = ((pattern.fullmatch(name), replacement) for pattern, replacement in patterns)
        target = next((_calculate(match.expand(replacement), numbers) for match, replacement in matches if match), None)
        if target is not None:
            renamed[target] = value
    return renamed


@functools.cache
def _compiled(library: str) -> list[tuple[re.Pattern, str]]:
    return [(re.compile(pattern), replacement) for pattern, replacement in _TABLES[library]]


def _rename(weights: Weights, library: str, own: Weights) -> OrderedDict[str, Tensor]:
    renamed: OrderedDict[str, Tensor] = OrderedDict()
    levels = [int(m.group(1)) for m in (re.match(r'backbone\.fpn_lateral(\d)', name) for name in weights) if m]
    convs = sum(bool(re.fullmatch(r'neck\.convs\.\d+\.conv\.weight', name)) for name in own)
    layers = {m.group(1) for m in (re.match(r'decoder\.layers\.(\d+)\.', name) for name in own) if m}
    numbers = dict(LOW=min(levels, default=2), CONVS=convs, LAYERS=len(layers))
    prefix = 'backbone.' if any(name.startswith('backbone.') for name in own) else ''
    for name, value in weights.items():
        matches = ((pattern.fullmatch(name), replacement) for pattern, replacement in _compiled(library))
        targets = [_calculate(match.expand(replacement), numbers) for match, replacement in matches if match]
        if not prefix:
            targets = [target.removeprefix('backbone.') for target in targets]
        if targets:
            known = (target for target in targets if target.partition('@')[0] in own)
            target = next(known, targets[0])
            if target:
                renamed[target] = value
        elif not library.startswith(('torchvision', 'detectron2')):
            renamed[name] = value
    return _of_all_layers(_joined(renamed), own)


def _joined(weights: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """``NAME`` in the place of ``NAME@0``, ``NAME@1`` and perhaps ``NAME@2``, its rows one after the other.

    What a model attends with has three parts, so the two of a gated layer are told by their name.
    """
    for name in [name.removesuffix('@0') for name in weights if name.endswith('@0')]:
        parts = [f'{name}@{i}' for i in range(2 if '.w12.' in name else 3)]
        if all(part in weights for part in parts):
            weights[name] = torch.cat([weights.pop(part) for part in parts])
    return weights


def _of_all_layers(weights: OrderedDict[str, Tensor], own: Weights) -> OrderedDict[str, Tensor]:
    """With a branch for every decoder layer, where a file has one for all: safetensors holds what is shared once."""
    branch = re.compile(r'(bbox_head\.(?:cls|reg)_branches\.)(\d+)(\..+)')
    places = [match.groups() for match in map(branch.fullmatch, own) if match]
    last = str(max((int(index) for _, index, _ in places), default=0))  # perhaps that of the encoder
    found = [match.groups() for match in map(branch.fullmatch, weights) if match]
    for kind in {kind for kind, _, _ in found}:
        shared = {index for other, index, _ in found if other == kind and (index != last or index == '0')}
        if len(shared) == 1:
            source = kind + shared.pop()
            for _, index, rest in (place for place in places if place[0] == kind):
                if f'{kind}{index}{rest}' not in weights and source + rest in weights:
                    weights[f'{kind}{index}{rest}'] = weights[source + rest]
    return weights


def _calculate(name: str, numbers: dict[str, int]) -> str:
    """``{5-1}``, ``{6/3}``, ``{1*2}`` and ``{1+23}`` in a replacement, with LOW for the lowest level of an FPN in the
    file, CONVS for the number of maps that the neck of the model takes and LAYERS for that of its decoder layers."""

    def result(match: re.Match) -> str:
        left, sign, right = match.groups()
        a, b = int(left), numbers[right] if right in numbers else int(right)
        return str({'-': a - b, '+': a + b, '/': a // max(b, 1), '*': a * b}[sign])

    return re.sub(r'\{(\d+)([-+/*])(\w+)\}', result, name)
