"""The part of a config that ``Albu`` hands to the package albumentations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmdet.checks.finding import Finding
from mmdet.config.places import nearest
from mmdet.datasets.transforms.moving import BOX_PARAMETERS, moving_transforms
from mmdet.registry import argument_names

_BOX_KEYS = {'type', 'format', 'label_fields', 'min_area', 'min_visibility', 'min_width', 'min_height'}
_BOX_KEYS |= {'check_each_transform', 'filter_lost_elements', 'clip', 'filter_invalid_bboxes', 'max_accept_ratio'}
# names and arguments of former versions that Albu translates
_FORMER = {'JpegCompression': {'quality_lower', 'quality_upper', 'p', 'always_apply'}}


def albumentations_findings(node: dict, where: str, around: Any) -> Iterator[Finding]:
    """Findings on one ``Albu``. Without the package only the keys that its versions share are checked.

    Args:
        around: The pipeline that it stands in.
    """
    boxes, transforms = node.get('bbox_params'), node.get('transforms') or ()
    if isinstance(boxes, dict):
        yield from _unknown(boxes, f'{where}.bbox_params', _BOX_KEYS, 'BboxParams')
    moving = moving_transforms(transforms)
    if moving and not boxes and _loads_boxes(around):
        yield Finding(
            'error',
            f'{where}.bbox_params',
            f'{", ".join(moving)} would move the picture and not the boxes. Set bbox_params={BOX_PARAMETERS}.',
        )
    try:
        import albumentations
    except ImportError:
        return
    yield from _transforms(transforms, f'{where}.transforms', albumentations)


def _transforms(transforms: Any, where: str, library: Any) -> Iterator[Finding]:
    for index, item in enumerate(transforms):
        place = f'{where}[{index}]'
        if not isinstance(item, dict) or not isinstance(item.get('type'), str):
            continue
        name = item['type']
        kind = getattr(library, name, None)
        if kind is None and name not in _FORMER:
            near = nearest(name, [each for each in dir(library) if each[:1].isupper()])
            hint = f' Did you mean {" or ".join(near)}?' if near else ''
            yield Finding('error', f'{place}.type', f'albumentations {library.__version__} has no {name!r}.{hint}')
            continue
        known = _FORMER[name] if kind is None else argument_names(kind) | {'p', 'always_apply'}
        yield from _unknown(item, place, known | {'type'}, name)
        yield from _transforms(item.get('transforms') or (), f'{place}.transforms', library)


def _unknown(node: dict, where: str, known: set[str], title: str) -> Iterator[Finding]:
    for key in node:
        if key not in known:
            near = nearest(key, known)
            hint = f'Did you mean {" or ".join(near)}?' if near else f'It takes {", ".join(sorted(known))}.'
            yield Finding('error', f'{where}.{key}', f'{title} has no argument {key!r}. {hint}')


def _loads_boxes(pipeline: Any) -> bool:
    if not isinstance(pipeline, (list, tuple)):
        return True
    loaders = [each for each in pipeline if isinstance(each, dict) and 'LoadAnnotations' in str(each.get('type'))]
    return not loaders or any(each.get('with_bbox', True) for each in loaders)
