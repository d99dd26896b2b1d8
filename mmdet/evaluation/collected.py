"""Detections beside the objects that were to be found, in one small file: what reports start from.

Letters: N detections, M objects, I pictures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmdet.datasets import walk
from mmdet.errors import UserFileError, UserValueError

COLUMNS = {
    'det_image': ((), np.int64), 'det_label': ((), np.int64),
    'det_score': ((), np.float32), 'det_box': ((4,), np.float32),
    'gt_image': ((), np.int64), 'gt_label': ((), np.int64), 'gt_box': ((4,), np.float32), 'gt_ignore': ((), bool),
}  # fmt: skip


@dataclass
class Collected:
    """Boxes are xyxy in pixels of the loaded picture; ``det_image`` and ``gt_image`` count the pictures from 0.

    Attributes:
        columns: ``det_image``, ``det_label``, ``det_score`` (N,), ``det_box`` (N, 4), ``gt_image``, ``gt_label``,
            ``gt_ignore`` (M,), ``gt_box`` (M, 4).
        paths: Of the pictures (I,).
        sizes: Width and height (I, 2).
        classes: Names of the labels.
        meta: What else is known: ``metric`` and its ``score``, ``metrics``, ``epoch``.
        keys: Of :func:`truth_of`: the number of each picture.
        masks: ``gt`` and ``det``: the COCO segmentation of each row, None where there is none.
    """

    columns: dict[str, np.ndarray]
    paths: list[str]
    sizes: np.ndarray
    classes: list[str]
    meta: dict[str, Any] = field(default_factory=dict)
    keys: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)
    masks: dict[str, list] = field(default_factory=dict, repr=False)

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__['columns'][name]
        except KeyError:
            raise AttributeError(name) from None

    def save(self, path: str | os.PathLike) -> None:
        """Write an ``.npz`` file, whole or not at all."""
        from mmdet.utils.checkpoint import atomic_file

        text = json.dumps(dict(paths=self.paths, classes=self.classes, meta=self.meta, masks=self.masks))
        with atomic_file(path) as file:
            np.savez_compressed(file, allow_pickle=False, **self._arrays(text))

    def _arrays(self, text: str) -> dict[str, Any]:
        return dict(self.columns, sizes=self.sizes, text=np.array(text))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Collected:
        """Read what :meth:`save` wrote; the file runs no code."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            text = json.loads(str(arrays.pop('text')))
            columns = {name: arrays[name] for name in COLUMNS}
            masks = text.get('masks', {})
            return cls(columns, text['paths'], arrays['sizes'], text['classes'], text['meta'], masks=masks)
        except FileNotFoundError:
            raise UserFileError(f'{path} does not exist: it is written by a training or a test with a report') from None
        except Exception as error:  # a damaged zip may raise nearly anything
            raise UserFileError(f'{path} is damaged or not a file of detections: {str(error)[:200]}') from error


def picture_of(source: Mapping | Any) -> tuple[str, str]:
    """What tells the pictures of a data set apart: of a sample, or of what the data set says of it."""
    get = source.get if hasattr(source, 'get') else lambda name: getattr(source, name, None)
    return str(get('img_id')), str(get('img_path'))


def truth_of(dataset: Any) -> Collected:
    """The objects of a data set, and no detections.

    Raises:
        UserValueError: the data set has no boxes to be found.
    """
    rows: dict[str, list] = {name: [] for name in COLUMNS}
    paths: list[str] = []
    sizes = []
    leaf = walk.leaves(dataset)[0]
    classes = (getattr(leaf, 'metainfo', None) or {}).get('classes')
    if not classes:
        raise UserValueError('the data set has no classes of objects')
    keys: dict[tuple[str, str], int] = {}
    masks: list = []
    for index in range(len(dataset)):
        info = walk.data_info(dataset, index)
        key = picture_of(info)
        if key in keys:
            continue
        image = keys[key] = len(paths)
        paths.append(key[1])
        sizes.append((info.get('width') or 0, info.get('height') or 0))
        for entry in info.get('instances') or ():
            rows['gt_image'].append(image)
            rows['gt_label'].append(entry['bbox_label'])
            rows['gt_box'].append(entry['bbox'])
            rows['gt_ignore'].append(bool(entry.get('ignore_flag', 0)))
            masks.append(_plain_mask(entry.get('mask')))
    columns = {name: np.asarray(rows[name], dtype=kind).reshape(-1, *shape) for name, (shape, kind) in COLUMNS.items()}
    size_of = np.asarray(sizes, dtype=np.int64).reshape(-1, 2)
    return Collected(columns, paths, size_of, list(map(str, classes)), keys=keys, masks=dict(gt=masks))


def _plain_mask(mask: Any) -> Any:
    """Polygons or a code as JSON can hold them; None for anything else."""
    if isinstance(mask, Mapping) and 'counts' in mask:
        counts = mask['counts']
        return dict(size=list(map(int, mask['size'])), counts=counts.decode() if isinstance(counts, bytes) else counts)
    if isinstance(mask, (list, tuple)):
        return [[float(value) for value in part] for part in mask] or None
    return None


def with_detections(
    truth: Collected, found: Iterable[tuple[tuple[str, str], np.ndarray, np.ndarray, np.ndarray, list]]
) -> Collected:
    """``truth`` with detections: for each picture its key, boxes, scores, labels and masks, the latter by detection.

    A picture that comes again does not count.
    """
    parts: dict[str, list] = {name: [] for name in COLUMNS if name.startswith('det')}
    seen = set()
    masks: list = []
    for key, boxes, scores, labels, codes in found:
        image = truth.keys.get(key)
        if image is None or image in seen:
            continue
        seen.add(image)
        parts['det_image'].append(np.full(len(boxes), image))
        parts['det_label'].append(labels)
        parts['det_score'].append(scores)
        parts['det_box'].append(np.reshape(boxes, (-1, 4)))
        masks += [_plain_mask(code) for code in codes]
    columns = dict(truth.columns)
    for name, values in parts.items():
        shape, kind = COLUMNS[name]
        columns[name] = np.concatenate(values).astype(kind) if values else np.zeros((0, *shape), kind)
    return Collected(columns, truth.paths, truth.sizes, truth.classes, masks=dict(truth.masks, det=masks))


# --------------------------------------------------------------------------------------------------------------------
# Matching
def match(found: Collected, iou_thrs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are right, as COCO matches them: the best first, each to the object that it overlaps most.

    Returns:
        (T, N) 1 for right, 0 for wrong, -1 for on an ignored object; (T, M) the index of the detection that each object
        got, -1 for none.
    """
    from mmdet.evaluation.functional import bbox_overlaps

    right = np.zeros((len(iou_thrs), len(found.det_image)), dtype=np.int8)
    taken = np.full((len(iou_thrs), len(found.gt_image)), -1, dtype=np.int64)
    dets_of, gts_of = _groups(found, 'det'), _groups(found, 'gt')
    for key, dets in dets_of.items():
        gts = gts_of.get(key)
        if gts is None:
            continue
        dets = dets[np.argsort(-found.det_score[dets], kind='stable')]
        gts = gts[np.argsort(found.gt_ignore[gts], kind='stable')]
        ignored = found.gt_ignore[gts]
        ious = bbox_overlaps(found.det_box[dets], found.gt_box[gts])  # (n, m)
        inside = bbox_overlaps(found.det_box[dets], found.gt_box[gts], mode='iof')
        ious = np.where(ignored, inside, ious)  # an ignored object is a crowd, of which a detection may be a part
        for t, threshold in enumerate(iou_thrs):
            for row in np.flatnonzero(ious.max(1) >= threshold):
                free = (ious[row] >= threshold) & ((taken[t, gts] < 0) | ignored)
                if not free.any():
                    continue
                pool = free & ~ignored if (free & ~ignored).any() else free
                best = np.where(pool, ious[row], -1).argmax()
                right[t, dets[row]] = -1 if ignored[best] else 1
                if not ignored[best]:
                    taken[t, gts[best]] = dets[row]
    return right, taken


def _groups(found: Collected, kind: str) -> dict[tuple[int, int], np.ndarray]:
    """Rows by picture and label."""
    images, labels = found.columns[f'{kind}_image'], found.columns[f'{kind}_label']
    order = np.lexsort((labels, images))
    if not len(order):
        return {}
    borders = np.flatnonzero((np.diff(images[order]) != 0) | (np.diff(labels[order]) != 0)) + 1
    return {(int(images[rows[0]]), int(labels[rows[0]])): rows for rows in np.split(order, borders)}


def average_precision_of(found: Collected, right: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(T, K) AP at 101 recalls, NaN for a class without objects.

    Args:
        right: Of :func:`match`.
        weights: How often each picture counts (I,), once by default: the draws of a bootstrap.
    """
    weights = np.ones(len(found.paths)) if weights is None else weights
    points = np.linspace(0, 1, 101)
    result = np.full((len(right), len(found.classes)), np.nan)
    counted = weights[found.gt_image] * ~found.gt_ignore
    for label in range(len(found.classes)):
        total = counted[found.gt_label == label].sum()
        if total == 0:
            continue
        rows = np.flatnonzero(found.det_label == label)
        rows = rows[np.argsort(-found.det_score[rows], kind='stable')]
        weight = weights[found.det_image[rows]]
        hits = np.cumsum(weight * (right[:, rows] == 1), axis=1)  # (T, n)
        wrong = np.cumsum(weight * (right[:, rows] == 0), axis=1)
        precision = hits / np.maximum(hits + wrong, 1e-9)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for t in range(len(right)):
            at = np.searchsorted(hits[t] / total, points - 1e-9)
            result[t, label] = np.append(precision[t], 0)[at].mean()
    return result
