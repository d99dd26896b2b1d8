"""COCO's evaluator by hotcoco (the numbers of pycocotools, at a hundred times its speed) or by pycocotools itself.

Neither backend sees the ids of a file. Images, categories and annotations are numbered anew first, so that ids may be
0, negative, text or not unique, and both backends give equal numbers.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.util
import io
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mmengine.logging import print_log
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO as _COCO
from pycocotools.cocoeval import COCOeval as _COCOeval

from mmdet.errors import UserKeyError


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
    def from_dicts(cls, annotations: Sequence[dict], iou_type: str) -> Objects:
        """Annotations or results in COCO's format; those without ``area`` get that of their mask or box.

        Raises:
            UserKeyError: if one has no ``bbox`` (of four numbers) or ``segmentation``, whichever ``iou_type`` needs.
        """
        boxes = [annotation.get('bbox') for annotation in annotations]
        unusual = [i for i, box in enumerate(boxes) if box is None or len(box) != 4]
        masks = [annotation.get('segmentation') for annotation in annotations] if iou_type == 'segm' else None
        for i in unusual if masks is None else [i for i, mask in enumerate(masks) if mask is None or not len(mask)]:
            key, own = 'bbox' if masks is None else 'segmentation', annotations[i]
            name = f'annotation {own.get("id", i)} of image {own["image_id"]}'
            given = f' but {own[key]!r}' if key in own else ''
            raise UserKeyError(f'metric={iou_type!r} needs {key!r}, but {name} has no {key!r}{given}.')
        for i in unusual:
            boxes[i] = (0.0, 0.0, 0.0, 0.0)

        def column(key: str, default: Any, dtype: type) -> np.ndarray:
            return np.array([annotation.get(key, default) for annotation in annotations], dtype=dtype)

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
            column('iscrowd', 0, bool),
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


def _mask_area(mask: dict) -> float:
    counts = mask['counts']
    return float(sum(counts[1::2]) if isinstance(counts, list) else coco_mask.area(mask))


def id_column(ids: Sequence) -> np.ndarray:
    """Ids as an array: of integers if all are, else of objects, so that no number turns into a text."""
    return np.array(ids, dtype=int if all(isinstance(i, int | np.integer) for i in ids) else object)


def _is_integers(ids: Sequence | np.ndarray) -> bool:
    return isinstance(ids, np.ndarray) and ids.dtype.kind == 'i'


def distinct_ids(ids: Sequence | np.ndarray) -> set:
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


def _by_hotcoco(images: list[dict], categories: list[dict], truth: Objects, found: Objects, iou_type: str) -> Any:
    import hotcoco

    gt = hotcoco.COCO.from_arrays(
        images,
        categories,
        truth.image_ids,
        truth.category_ids,
        truth.boxes,
        area=truth.area,
        iscrowd=truth.crowd,
        segmentation=truth.masks,
    )
    table = np.column_stack([found.image_ids, found.boxes, found.scores, found.category_ids])
    dt = gt.load_res(table, segmentation=found.masks)
    if found.masks is not None or (found.area != found.boxes[:, 2] * found.boxes[:, 3]).any():
        dt.update_anns(ids=np.arange(1, len(found) + 1), area=found.area)
    return hotcoco.COCOeval(gt, dt, iou_type)


def _by_pycocotools(images: list[dict], categories: list[dict], truth: Objects, found: Objects, iou_type: str) -> Any:
    def index(objects: Objects) -> _COCO:
        keys = ('image_id', 'category_id', 'bbox', 'area', 'score', 'iscrowd', 'id')
        columns = [objects.image_ids, objects.category_ids, objects.boxes, objects.area, objects.scores, objects.crowd]
        rows = zip(*(np.asarray(column).tolist() for column in columns), range(1, len(objects) + 1), strict=True)
        annotations = [dict(zip(keys, row, strict=True)) for row in rows]
        for annotation, mask in zip(annotations, objects.masks or ()):
            annotation['segmentation'] = mask
        coco = _COCO()
        coco.dataset = dict(images=images, categories=categories, annotations=annotations)
        coco.createIndex()
        return coco

    return _COCOeval(index(truth), index(found), iou_type)


BACKENDS: dict[str, Callable[..., Any]] = {'hotcoco': _by_hotcoco, 'pycocotools': _by_pycocotools}


@functools.cache
def backend_name(wanted: bool | str = True) -> str:
    """The backend to use: ``True`` asks for the fastest, ``False`` for pycocotools, a text for the one of that name.

    One that is unknown or not installed is replaced by pycocotools, with one warning.
    """
    name = wanted if isinstance(wanted, str) else ('hotcoco' if wanted else 'pycocotools')
    if name in BACKENDS and importlib.util.find_spec(name) is not None:
        return name
    reason = 'is not installed' if name in BACKENDS else f'is not known (there are {", ".join(BACKENDS)})'
    message = f'COCO evaluation by {name}: it {reason}. pycocotools evaluates instead, with the same numbers.'
    print_log(message, 'current', logging.WARNING)
    return 'pycocotools'


class COCOeval(_COCOeval):
    """pycocotools' evaluator, with its parameters and results, by whichever backend is the fastest.

    Key points are evaluated by pycocotools. ``inner`` is the backend's own evaluator, in numbers instead of ids.

    Args:
        cocoGt: Ground truth, pycocotools' ``COCO`` or a class with its interface.
        cocoDt: Detections, likewise, or as :class:`Objects`.
        iouType: ``'bbox'``, ``'segm'`` or ``'keypoints'``.
        backend: See :func:`backend_name`.
    """

    def __init__(
        self, cocoGt: Any = None, cocoDt: Any = None, iouType: str = 'segm', backend: bool | str = True
    ) -> None:
        self.params: Any
        self._records: Any = []
        super().__init__(None, None, iouType)
        self.cocoGt, self.cocoDt, self.backend = cocoGt, cocoDt, backend
        self.inner: Any = None
        if cocoGt is not None:
            self.params.imgIds = sorted_ids(cocoGt.getImgIds())
            self.params.catIds = sorted_ids(cocoGt.getCatIds())

    def evaluate(self) -> None:
        p = self.params
        p.imgIds, p.maxDets = sorted_ids(p.imgIds), sorted(p.maxDets)
        if p.useCats:
            p.catIds = sorted_ids(p.catIds)
        if p.iouType == 'keypoints':
            super().evaluate()
            return
        images = [self.cocoGt.imgs.get(img_id, {}) for img_id in p.imgIds]
        sizes = [{key: image[key] for key in ('height', 'width') if key in image} for image in images]
        self._truth, self._found = self.columns()
        if not p.useCats:
            self._truth, self._found = _of_one_category(self._truth), _of_one_category(self._found)
        names = [self.cocoGt.cats.get(cat_id, {}).get('name', str(cat_id)) for cat_id in p.catIds]
        with contextlib.redirect_stdout(io.StringIO()):
            inner = BACKENDS[backend_name(self.backend)](
                [dict(size, id=i + 1) for i, size in enumerate(sizes)],
                [dict(id=i + 1, name=name) for i, name in enumerate(names if p.useCats else ['object'])],
                self._truth,
                self._found,
                p.iouType,
            )
            inner.params.iouThrs = np.asarray(p.iouThrs, dtype=float)
            inner.params.recThrs = np.asarray(p.recThrs, dtype=float)
            inner.params.maxDets = list(p.maxDets)
            inner.params.areaRng = [list(map(float, area)) for area in p.areaRng]
            inner.params.areaRngLbl = list(p.areaRngLbl)
            inner.evaluate()
        self.inner, self._records = inner, None

    def columns(self) -> tuple[Objects, Objects]:
        """Ground truth and detections of the images and categories evaluated, which are numbered from 1 there."""
        numbers = [{own: i + 1 for i, own in enumerate(ids)} for ids in (self.params.imgIds, self.params.catIds)]

        def numbered(source: Any) -> Objects:
            objects = source
            if not isinstance(source, Objects):
                objects = Objects.from_dicts(source.dataset.get('annotations', ()), self.params.iouType)
            image_ids = numbers_of(objects.image_ids, numbers[0])
            category_ids = numbers_of(objects.category_ids, numbers[1])
            objects = replace(
                objects,
                image_ids=image_ids,
                category_ids=category_ids,
                # what is no number would overlap everything, or stop one of the backends
                boxes=np.nan_to_num(objects.boxes, nan=0.0, posinf=np.inf, neginf=-np.inf),
                scores=np.where(np.isnan(objects.scores), -np.inf, objects.scores),
            )
            known = (image_ids > 0) & (category_ids > 0)
            return objects if known.all() else objects.take(np.flatnonzero(known))

        return numbered(self.cocoGt), numbered(self.cocoDt)

    def accumulate(self, p: Any = None) -> None:
        if self.params.iouType == 'keypoints':
            super().accumulate(p)
            return
        if p is not None:
            self.params = p
            self.evaluate()
        with contextlib.redirect_stdout(io.StringIO()):
            self.inner.accumulate()
        found = self.inner.eval
        arrays = {key: np.asarray(found[key]) for key in ('precision', 'recall', 'scores')}
        self.eval = dict(
            params=self.params,
            counts=list(arrays['precision'].shape),
            date=datetime.datetime.now().strftime('%Y-%m-%d %H:%M:%S'),
            **arrays,
        )

    @property
    def evalImgs(self) -> Any:
        """What was matched with what: a dict or ``None`` for each category, area and image, in this order.

        The ids are those of the annotations, or their numbers from 1 if these are no distinct positive integers.
        """
        if self._records is None:
            self._records = self._image_records()
        return self._records

    @evalImgs.setter
    def evalImgs(self, value: Any) -> None:
        self._records = value

    def _image_records(self) -> list[dict | None]:
        p = self.params
        gt_ids, dt_ids = _usable(self._truth), _usable(self._found)
        records = {}
        for record in self.inner.evalImgs:
            if record is not None:
                area = tuple(map(float, record['aRng']))
                thrs = (len(p.iouThrs), -1)
                category = p.catIds[int(record['category_id']) - 1] if p.useCats else -1
                image = p.imgIds[int(record['image_id']) - 1]
                records[category, area, image] = dict(
                    image_id=image,
                    category_id=category,
                    aRng=record['aRng'],
                    maxDet=record['maxDet'],
                    dtIds=dt_ids[np.asarray(record['dtIds'], dtype=int)].tolist(),
                    gtIds=gt_ids[np.asarray(record['gtIds'], dtype=int)].tolist(),
                    dtMatches=gt_ids[np.asarray(record['dtMatches'], dtype=int)].reshape(thrs).astype(float),
                    gtMatches=dt_ids[np.asarray(record['gtMatches'], dtype=int)].reshape(thrs).astype(float),
                    dtScores=list(record['dtScores']),
                    gtIgnore=np.asarray(record['gtIgnore'], dtype=int),
                    dtIgnore=np.asarray(record['dtIgnore'], dtype=bool).reshape(thrs),
                )
        areas = [tuple(map(float, area)) for area in p.areaRng]
        categories = p.catIds if p.useCats else [-1]
        return [records.get((c, area, image)) for c in categories for area in areas for image in p.imgIds]


def _of_one_category(objects: Objects) -> Objects:
    order = np.argsort(objects.category_ids, kind='stable')  # pycocotools takes one category after the other
    return replace(objects.take(order), category_ids=np.ones(len(objects), dtype=int))


def _usable(objects: Objects) -> np.ndarray:
    """(n + 1,): the id of each number from 1; 0 stays 0, which stands for no match."""
    ids = list(objects.ids)
    if len(set(ids)) < len(objects) or not all(isinstance(i, int) and i > 0 for i in ids):
        ids = list(range(1, len(objects) + 1))
    return np.array([0, *ids])


class COCOevalMP(COCOeval):
    """The name that ``use_mp_eval`` stood for; nothing is left to share among processes."""
