"""LVIS evaluation (arXiv:1908.03195, Sec. 3): COCO's matching on a federated dataset.

Of an image only some categories are known to be there (it has annotations) or to be absent (``neg_category_ids``);
detections of any other are not evaluated. In ``not_exhaustive_category_ids`` not every object is annotated, so that
detections without a partner count neither way.
"""

from __future__ import annotations

import contextlib
import io
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from .coco_eval import AREAS, average_precision, average_recall, coco_backend, load_detections

FREQUENCIES = ('r', 'c', 'f')
"""Categories with up to 10, up to 100 and more training images: rare, common, frequent."""


def known_detections(coco: Any, detections: Sequence[dict], max_dets: int, federated: bool = True) -> list[dict]:
    """The best ``max_dets`` detections of each image, then those whose category is known there to be or not to be."""
    by_image = defaultdict(list)
    for detection in detections:
        by_image[detection['image_id']].append(detection)
    kept = []
    for img_id, found in by_image.items():
        found = sorted(found, key=lambda detection: -detection['score'])[:max_dets]
        if federated and img_id in coco.imgs:
            known = {annotation['category_id'] for annotation in coco.imgToAnns.get(img_id, ())}
            known.update(coco.imgs[img_id].get('neg_category_ids', ()))
            found = [detection for detection in found if detection['category_id'] in known]
        kept += found
    return kept


def _pycocotools_evaluator(coco: Any, results: Any, iou_type: str) -> Any:
    base = coco_backend(faster=False)[1]
    open_sets = {img_id: set(image.get('not_exhaustive_category_ids', ())) for img_id, image in coco.imgs.items()}

    class Evaluator(base):
        def evaluateImg(self, imgId, catId, aRng, maxDet):
            found = super().evaluateImg(imgId, catId, aRng, maxDet)
            if found is not None and catId in open_sets[imgId]:
                found['dtIgnore'] = np.logical_or(found['dtIgnore'], found['dtMatches'] == 0)
            return found

    return Evaluator(coco, results, iou_type)


def evaluate_lvis(
    coco: Any,
    detections: Sequence[dict],
    iou_type: str = 'bbox',
    cat_ids: Sequence[int] | None = None,
    img_ids: Sequence | None = None,
    iou_thrs: Sequence[float] | None = None,
    max_dets: int = 300,
    use_cats: bool = True,
    faster: bool = True,
) -> Any:
    """Match and accumulate; the evaluator is as that of :func:`.coco_eval.evaluate_coco`."""
    for annotation in coco.dataset['annotations']:
        annotation.setdefault('iscrowd', 0)  # LVIS has no crowds
    results = load_detections(coco, known_detections(coco, detections, max_dets, federated=use_cats))
    backend = coco_backend(faster)[1]
    if backend.__module__.startswith('faster_coco_eval'):
        evaluator = backend(coco, results, iou_type, lvis_style=use_cats)
    else:
        evaluator = _pycocotools_evaluator(coco, results, iou_type)
    if cat_ids is not None:
        evaluator.params.catIds = list(cat_ids)
    if img_ids is not None:
        evaluator.params.imgIds = list(img_ids)
    if iou_thrs is not None:
        evaluator.params.iouThrs = np.asarray(iou_thrs, dtype=float)
    evaluator.params.maxDets = [max_dets]
    evaluator.params.useCats = int(use_cats)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


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
