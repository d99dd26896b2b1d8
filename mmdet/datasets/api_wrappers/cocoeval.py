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
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from mmengine.logging import print_log
from pycocotools.coco import COCO as _COCO
from pycocotools.cocoeval import COCOeval as _COCOeval

from mmdet.datasets.reading.values import as_size

from .columns import Objects, numbers_of, sorted_ids


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


STEPS = ('_prepare', 'computeIoU', 'evaluateImg')
"""Methods of pycocotools' evaluator that subclasses override."""


class COCOeval(_COCOeval):
    """pycocotools' evaluator, with its parameters and results, by whichever backend is the fastest.

    ``inner`` is the backend's own evaluator, in numbers instead of ids. Key points, and subclasses with steps of
    their own, are evaluated as pycocotools does.

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
        own_steps = any(getattr(type(self), step) is not getattr(_COCOeval, step) for step in STEPS)
        if own_steps or p.iouType == 'keypoints':
            self.inner = None
            super().evaluate()
            return
        images = [self.cocoGt.imgs.get(img_id, {}) for img_id in p.imgIds]
        found_sizes = [as_size(image.get('height'), image.get('width')) for image in images]
        sizes = [{} if size is None else dict(height=size[0], width=size[1]) for size in found_sizes]
        self._truth, self._found = self.columns()
        if not p.useCats:
            self._truth, self._found = self._truth.of_one_category(), self._found.of_one_category()
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
                entries = source.dataset.get('annotations', ())
                objects = Objects.from_dicts(entries, self.params.iouType, self.cocoGt.imgs)
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
        if self.inner is None:
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
        gt_ids, dt_ids = self._truth.own_ids(), self._found.own_ids()
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


class COCOevalMP(COCOeval):
    """The name that ``use_mp_eval`` stood for; nothing is left to share among processes."""
