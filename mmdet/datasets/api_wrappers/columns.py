"""Objects and detections as columns, which COCO's evaluation works on, and the numbering of their ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mmdet.datasets.reading.values import as_size, short
from mmdet.errors import UserKeyError, UserValueError
from mmdet.structures.mask.validation import are_sound_codes, check_mask


@dataclass
class Objects:
    """n objects or detections as columns."""

    image_ids: Sequence | np.ndarray
    category_ids: Sequence | np.ndarray
    boxes: np.ndarray
    """(n, 4) xywh."""
    area: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    """Flags of LVIS; COCO's evaluation knows crowds alone."""
    masks: list | None = None
    ids: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def from_dicts(
        cls, annotations: Sequence[dict], iou_type: str, images: Mapping[Any, dict] | None = None
    ) -> Objects:
        """Annotations or results in COCO's format; those without ``area`` get that of their mask or box.

        An object whose polygons are none of at least three points is taken for a crowd that nothing overlaps.

        Args:
            images: By id, with ``height`` and ``width``, which masks are compared with.

        Raises:
            UserKeyError: if one has no ``bbox`` (of four numbers) or ``segmentation``, whichever ``iou_type`` needs.
            UserValueError: if a mask has no meaning.
        """
        boxes = [annotation.get('bbox') for annotation in annotations]
        unusual = [i for i, box in enumerate(boxes) if _length(box) != 4]
        masks = [annotation.get('segmentation') for annotation in annotations] if iou_type == 'segm' else None
        for i in unusual if masks is None else [i for i, mask in enumerate(masks) if not _length(mask)]:
            key, own = 'bbox' if masks is None else 'segmentation', annotations[i]
            name = f'annotation {own.get("id", i)} of image {own["image_id"]}'
            given = f' but {short(own[key])}' if key in own else ''
            raise UserKeyError(f'metric={iou_type!r} needs {key!r}, but {name} has no {key!r}{given}.')
        for i in unusual:
            boxes[i] = (0.0, 0.0, 0.0, 0.0)
        empty = [] if masks is None else _check_masks(masks, annotations, images or {})

        def column(key: str, default: Any, dtype: type) -> np.ndarray:
            return np.array([annotation.get(key, default) for annotation in annotations], dtype=dtype)

        crowd = column('iscrowd', 0, bool)
        crowd[empty] = True
        xywh = np.array(boxes, dtype=float).reshape(-1, 4)
        area = column('area', np.nan, float)
        for i in np.flatnonzero(np.isnan(area)).tolist():
            mask = masks[i] if masks else None
            area[i] = _mask_area(mask) if isinstance(mask, dict) else xywh[i, 2] * xywh[i, 3]
        return cls(
            [annotation['image_id'] for annotation in annotations],
            [annotation['category_id'] for annotation in annotations],
            xywh,
            area,
            column('score', 0, float),
            crowd,
            column('ignore', 0, bool),
            masks,
            [annotation.get('id', i + 1) for i, annotation in enumerate(annotations)],
        )

    @classmethod
    def of_detections(
        cls,
        image_ids: Sequence | np.ndarray,
        category_ids: Sequence | np.ndarray,
        boxes: np.ndarray,
        scores: np.ndarray,
        masks: list | None,
    ) -> Objects:
        """Detections, whose area is that of their mask where they have one."""
        area = boxes[:, 2] * boxes[:, 3] if masks is None else np.array([_mask_area(mask) for mask in masks])
        no = np.zeros(len(boxes), dtype=bool)
        return cls(image_ids, category_ids, boxes, area, scores, no, no, masks)

    def take(self, index: np.ndarray) -> Objects:
        """Those at the given places, in that order."""

        def pick(values: Any) -> Any:
            return values[index] if isinstance(values, np.ndarray) else [values[i] for i in index]

        columns = {name: pick(values) for name, values in vars(self).items() if values is not None and len(values)}
        return replace(self, **columns)

    def of_one_category(self) -> Objects:
        """As pycocotools takes them without categories: one category after the other."""
        order = np.argsort(self.category_ids, kind='stable')
        return replace(self.take(order), category_ids=np.ones(len(self), dtype=int))

    def own_ids(self) -> np.ndarray:
        """(n + 1,): the id of each number from 1, if these are distinct positive integers; 0 stands for no match."""
        ids = list(self.ids)
        if len(set(ids)) < len(self) or not all(isinstance(i, int) and i > 0 for i in ids):
            ids = list(range(1, len(self) + 1))
        return np.array([0, *ids])


def _length(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 0


def _check_masks(masks: list, annotations: Sequence[dict], images: Mapping[Any, dict]) -> list[int]:
    """Masks become what the backends read, in place; returns the places of those that nothing is left of."""
    own_images = [images.get(annotation['image_id'], {}) for annotation in annotations]
    sizes = [as_size(image.get('height'), image.get('width')) or (None, None) for image in own_images]
    sound = are_sound_codes(masks).tolist()
    empty = []
    for i, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
        if sound[i] and (None in size or tuple(mask['size']) == size):
            continue
        found = check_mask(mask, *(size if None not in size else (None, None)))
        if found.problem is not None:
            own = annotations[i]
            name = f'annotation {own["id"]}' if 'id' in own else f'result {i}'
            raise UserValueError(f'{name} of image {own["image_id"]!r} {found.problem[1]}')
        if isinstance(found.mask, list) and None in size:
            raise UserValueError(
                f'image {annotations[i]["image_id"]!r} has no height and width, which its polygons need to be evaluated'
            )
        masks[i] = found.mask
        if found.mask is None:
            masks[i] = [[0.0] * 6]
            empty.append(i)
    return empty


def _mask_area(mask: dict) -> float:
    counts = mask['counts']
    return float(sum(counts[1::2]) if isinstance(counts, list) else coco_mask.area(mask))


def id_column(ids: Sequence) -> np.ndarray:
    """Ids as an array: of integers if all are, else of objects, so that no number turns into a text."""
    plain = all(isinstance(i, int | np.integer) and -(1 << 63) <= i < 1 << 63 for i in ids)
    return np.array(ids, dtype=int if plain else object)


def _is_integers(ids: Sequence | np.ndarray) -> bool:
    return isinstance(ids, np.ndarray) and ids.dtype.kind == 'i'


def distinct_ids(ids: Sequence | np.ndarray) -> set:
    """The different ids, as Python numbers where they are integers."""
    return set(np.unique(ids).tolist() if _is_integers(ids) else ids)


def numbers_of(ids: Sequence | np.ndarray, numbers: dict) -> np.ndarray:
    """The number of each id, 0 for an unknown one."""
    if _is_integers(ids):
        values, inverse = np.unique(ids, return_inverse=True)
        return np.array([numbers.get(i, 0) for i in values.tolist()], dtype=int)[inverse]
    return np.array([numbers.get(i, 0) for i in ids], dtype=int)


def sorted_ids(ids: Iterable) -> list:
    """Without repetitions; numbers come before texts."""
    return sorted(set(ids), key=lambda i: (isinstance(i, str), i))
