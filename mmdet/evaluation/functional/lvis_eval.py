"""LVIS evaluation (arXiv:1908.03195, Sec. 3): COCO's matching on a federated dataset.

Of an image only some categories are known to be there (it has annotations) or to be absent (``neg_category_ids``);
detections of any other are not evaluated. In ``not_exhaustive_category_ids`` not every object is annotated, so that
detections without a partner count neither way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmdet.datasets.api_wrappers import COCOeval
from mmdet.datasets.api_wrappers.columns import Objects

from .coco_eval import AREAS, average_precision, average_recall, evaluate_coco

FREQUENCIES = ('r', 'c', 'f')
"""Categories with up to 10, up to 100 and more training images: rare, common, frequent."""


class LVISEval(COCOeval):
    """COCO's evaluator on LVIS's terms; the one number of ``params.maxDets`` counts an image, over all categories.

    An area beyond every range is how COCO's matching is told not to count an object at all (``ignore``), and a
    detection only where it has a partner (of a category that is not exhaustively annotated).
    """

    def columns(self) -> tuple[Objects, Objects]:
        truth, found = super().columns()
        beyond = 2 * max(high for _, high in self.params.areaRng)
        truth = truth.take(np.flatnonzero(truth.area > 0))
        truth.crowd = np.zeros(len(truth), dtype=bool)  # LVIS has no crowds
        truth.area = np.where(truth.ignore, beyond, truth.area)
        found = found.take(_best_of_each_image(found, self.params.maxDets[-1]))
        if self.params.useCats:
            here = np.unique(self._pairs(truth.image_ids, truth.category_ids))
            known = np.concatenate([here, self._listed('neg_category_ids')])
            pairs = self._pairs(found.image_ids, found.category_ids)
            kept = np.flatnonzero(np.isin(pairs, known) & (found.area > 0))
            found = found.take(kept)
            unsure = np.isin(pairs[kept], self._listed('not_exhaustive_category_ids'))
            found.area = np.where(unsure, beyond, found.area)
        return truth, found

    def _pairs(self, images: Any, categories: Any) -> np.ndarray:
        """One number for each image and category."""
        return np.asarray(images, dtype=int) * (len(self.params.catIds) + 1) + np.asarray(categories, dtype=int)

    def _listed(self, key: str) -> np.ndarray:
        """The pairs of each image and the categories that it names under ``key``."""
        numbers = {cat_id: k + 1 for k, cat_id in enumerate(self.params.catIds)}
        rows = [
            (i + 1, numbers[cat_id])
            for i, img_id in enumerate(self.params.imgIds)
            for cat_id in self.cocoGt.imgs.get(img_id, {}).get(key, ())
            if cat_id in numbers
        ]
        return self._pairs(*np.array(rows, dtype=int).reshape(-1, 2).T)


def _best_of_each_image(found: Objects, count: int) -> np.ndarray:
    """Places of the ``count`` highest scores of each image, of equal ones the first; in the given order."""
    order = np.lexsort((-found.scores, found.image_ids))
    images = np.asarray(found.image_ids)[order]
    rank = np.arange(len(images)) - np.searchsorted(images, images)
    return np.sort(order[rank < count])


def evaluate_lvis(
    coco: Any,
    detections: Sequence[dict] | Objects,
    iou_type: str = 'bbox',
    cat_ids: Sequence[int] | None = None,
    img_ids: Sequence | None = None,
    iou_thrs: Sequence[float] | np.ndarray | None = None,
    max_dets: int = 300,
    use_cats: bool = True,
    faster: bool | str = True,
) -> LVISEval:
    """Match and accumulate, as :func:`.coco_eval.evaluate_coco`."""
    return evaluate_coco(coco, detections, iou_type, cat_ids, img_ids, iou_thrs, [max_dets], use_cats, faster, LVISEval)


def summarize_lvis(evaluator: Any) -> OrderedDict[str, float]:
    """``AP``, ``AP50``, ``AP75``, ``AP{s,m,l}`` by size, ``AP{r,c,f}`` by frequency, ``AR@n`` and ``AR{s,m,l}@n``."""
    params = evaluator.params
    numbers = OrderedDict(AP=average_precision(evaluator))
    numbers['AP50'] = average_precision(evaluator, 0.5)
    numbers['AP75'] = average_precision(evaluator, 0.75)
    for area in AREAS[1:]:
        numbers[f'AP{area}'] = average_precision(evaluator, area=area)
    precision = np.asarray(evaluator.eval['precision'])[:, :, :, 0, -1]
    categories = evaluator.cocoGt.cats
    for frequency in FREQUENCIES:
        if not params.useCats:
            break
        group = [k for k, cat_id in enumerate(params.catIds) if categories[cat_id].get('frequency') == frequency]
        values = precision[:, :, group]
        values = values[values > -1]
        numbers[f'AP{frequency}'] = float(values.mean()) if values.size else -1.0
    most = params.maxDets[-1]
    numbers[f'AR@{most}'] = average_recall(evaluator, most)
    for area in AREAS[1:]:
        numbers[f'AR{area}@{most}'] = average_recall(evaluator, most, area)
    return numbers
