"""COCO evaluation: reading, matching and the numbers of a summary.

Letters: T IoU thresholds, R recall points (101), K categories, A areas (all, small, medium, large), M detections kept.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.datasets.api_wrappers.columns import Objects, distinct_ids
from mmdet.datasets.reading.coco_file import read_json
from mmdet.errors import UserFileError, UserKeyError, UserValueError

AREAS = ('all', 's', 'm', 'l')
AREA_NAMES = {'all': 'all', 's': 'small', 'm': 'medium', 'l': 'large'}


def load_coco(
    annotations: str | Path | dict,
    faster: bool = True,
    sort_categories: bool = False,
    backend_args: dict | None = None,
    truth: bool = True,
) -> Any:
    """A ``COCO`` object of an annotation file or of its content; ``faster`` is not used, every backend reads it.

    Without ``truth`` the file may lack ``annotations``, as those of test sets do.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, or what it holds has no meaning.
        KeyError: if it lacks ``images``, ``annotations`` or ``categories``.
    """
    name, content = 'the annotations', annotations
    if not isinstance(annotations, dict):
        name = str(annotations)
        if '://' not in name and not Path(name).is_file() and not backend_args:
            raise UserFileError(f'The annotation file {name} does not exist.')
        with get_local_path(name, backend_args=backend_args) as path:
            content = read_json(str(path), name)
    if not truth and isinstance(content, dict):
        content.setdefault('annotations', [])
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            hint = ' Without ground truth, format_only=True writes results and measures nothing.'
            raise UserKeyError(
                f'{name}: a COCO annotation file needs a list under the key {key!r}.'
                f'{hint if key == "annotations" else ""}'
            )
    assert isinstance(content, dict)
    if sort_categories:
        content['categories'] = sorted(content['categories'], key=lambda category: category['id'])
    coco = COCO()
    coco.annotation_file, coco.IMAGE_KEYS = name, ('id',)
    coco.dataset = content
    coco.check()
    # an object may have no box, which is for those to miss who need it
    coco.checked.boxes(
        [entry for entry in coco.entries() if isinstance(box := entry.get('bbox'), list) and len(box) == 4]
    )
    coco.report.raise_refused()
    coco.createIndex()
    return coco


def category_ids(coco: Any, classes: Sequence[str]) -> list[int | None]:
    """For each label the id of the category of that name, ``None`` where the annotations lack it.

    Categories that share a name become one: the ground truth of the later ones moves to the first.

    Raises:
        ValueError: if the annotations have none of the classes.
    """
    first: dict[str, int] = {}
    for category in coco.dataset['categories']:
        first.setdefault(category['name'], category['id'])
    target = {category['id']: first[category['name']] for category in coco.dataset['categories']}
    if any(old != new for old, new in target.items()):
        for annotation in coco.dataset['annotations']:
            annotation['category_id'] = target.get(annotation['category_id'], annotation['category_id'])
        coco.createIndex()
    missing = [name for name in classes if name not in first]
    if missing:
        near = get_close_matches(missing[0], sorted(first), n=3)
        hint = f' Did you mean {" or ".join(near)}?' if near else ''
        text = f'The annotations have no category {", ".join(map(repr, missing[:10]))}.{hint}'
        if len(missing) == len(classes):
            raise UserValueError(f'{text} They have {", ".join(sorted(first)[:20])}.')
        print_log(f'{text} Detections of these classes are not evaluated.', logger='current', level=logging.WARNING)
    return [first.get(name) for name in classes]


def evaluate_coco(
    coco: Any,
    detections: Sequence[dict] | Objects,
    iou_type: str = 'bbox',
    cat_ids: Sequence[int] | None = None,
    img_ids: Sequence | None = None,
    iou_thrs: Sequence[float] | np.ndarray | None = None,
    max_dets: Sequence[int] = (1, 10, 100),
    use_cats: bool = True,
    faster: bool | str = True,
    evaluator: type[COCOeval] = COCOeval,
) -> COCOeval:
    """Match and accumulate; the returned evaluator holds ``eval['precision']`` (T, R, K, A, M) and its kin.

    Args:
        detections: Dicts in COCO's result format, or columns.
        faster: The backend, see :func:`mmdet.datasets.api_wrappers.cocoeval.backend_name`.

    Raises:
        ValueError: if a detection names an image that the ground truth does not have.
    """
    if not isinstance(detections, Objects):
        detections = Objects.from_dicts(detections, iou_type, coco.imgs)
    unknown = distinct_ids(detections.image_ids) - set(coco.imgs)
    if unknown:
        examples = ', '.join(map(str, sorted(unknown, key=str)[:3]))
        raise UserValueError(
            f'{len(unknown)} images with detections are not in the annotation file (image ids {examples}, ...). '
            'Is the ann_file of the metric that of the test dataset?'
        )
    found = evaluator(coco, detections, iou_type, backend=faster)
    if cat_ids is not None:
        found.params.catIds = list(cat_ids)
    if img_ids is not None:
        found.params.imgIds = list(img_ids)
    if iou_thrs is not None:
        found.params.iouThrs = np.asarray(iou_thrs, dtype=float)
    found.params.maxDets = list(max_dets)
    found.params.useCats = int(use_cats)
    found.evaluate()
    found.accumulate()
    return found


def _mean(values: np.ndarray) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def average_precision(evaluator: Any, iou_thr: float | None = None, area: str = 'all', category: int | None = None):
    """Mean precision over recall points and, unless given, IoU thresholds and categories; -1 without ground truth.

    As COCO's own summary does, AP over all IoU thresholds and areas is taken at 100 detections an image (or at the
    most that were evaluated, if 100 is not among them), any other at the most detections.
    """
    params, precision = evaluator.params, np.asarray(evaluator.eval['precision'])
    whole = iou_thr is None and area == 'all' and category is None
    kept = params.maxDets.index(100) if whole and 100 in params.maxDets else -1
    precision = precision[:, :, :, AREAS.index(area), kept]
    if iou_thr is not None:
        precision = precision[np.asarray(params.iouThrs) == iou_thr]
    if category is not None:
        precision = precision[:, :, category]
    return _mean(precision)


def average_recall(evaluator: Any, max_det: int, area: str = 'all') -> float:
    """Mean over IoU thresholds and categories of the highest recall with ``max_det`` detections an image."""
    kept = evaluator.params.maxDets.index(max_det)
    return _mean(np.asarray(evaluator.eval['recall'])[:, :, AREAS.index(area), kept])


def summarize(evaluator: Any) -> OrderedDict[str, float]:
    """The twelve COCO numbers: ``mAP``, ``mAP_50``, ``mAP_75``, ``mAP_{s,m,l}``, ``AR@n``, ``AR_{s,m,l}@most``."""
    numbers = OrderedDict(mAP=average_precision(evaluator))
    numbers['mAP_50'] = average_precision(evaluator, 0.5)
    numbers['mAP_75'] = average_precision(evaluator, 0.75)
    for area in AREAS[1:]:
        numbers[f'mAP_{area}'] = average_precision(evaluator, area=area)
    for max_det in evaluator.params.maxDets:
        numbers[f'AR@{max_det}'] = average_recall(evaluator, max_det)
    for area in AREAS[1:]:
        numbers[f'AR_{area}@{max_det}'] = average_recall(evaluator, max_det, area)
    return numbers


def summary_table(evaluator: Any) -> str:
    """The lines that COCO's ``summarize()`` prints."""
    params = evaluator.params
    most = params.maxDets[-1]
    span = f'{params.iouThrs[0]:0.2f}:{params.iouThrs[-1]:0.2f}'
    first = 100 if 100 in params.maxDets else most
    rows = [('Average Precision', 'AP', span, 'all', first, average_precision(evaluator))]
    for iou_thr in (0.5, 0.75):
        value = average_precision(evaluator, iou_thr)
        rows.append(('Average Precision', 'AP', f'{iou_thr:0.2f}', 'all', most, value))
    for area in AREAS[1:]:
        rows.append(('Average Precision', 'AP', span, AREA_NAMES[area], most, average_precision(evaluator, area=area)))
    for max_det in params.maxDets:
        rows.append(('Average Recall', 'AR', span, 'all', max_det, average_recall(evaluator, max_det)))
    for area in AREAS[1:]:
        rows.append(('Average Recall', 'AR', span, AREA_NAMES[area], most, average_recall(evaluator, most, area)))
    return '\n'.join(
        f' {title:<18} ({kind}) @[ IoU={iou:<9} | area={area:>6s} | maxDets={max_det:>4d} ] = {value:0.3f}'
        for title, kind, iou, area, max_det, value in rows
    )


def class_score_thresholds(evaluator: Any, names: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """For each class the score above which the F-measure of its precision-recall curve at IoU 0.5 is highest.

    This is how the authors of ATSS (arXiv:1912.02424) choose the scores to draw with. A class without ground truth or
    without a single true positive has no such score and is left out.

    Args:
        evaluator: An accumulated COCO evaluator whose IoU thresholds hold 0.5.
        names: Class names in the order of the evaluator's categories; by default those of its annotations.

    Returns:
        ``{name: {'threshold', 'f_measure', 'precision', 'recall'}}``.
    """
    params = evaluator.params
    at = np.flatnonzero(np.isclose(params.iouThrs, 0.5))
    if not at.size:
        raise UserValueError(f'Class score thresholds need IoU 0.5 among iou_thrs, got {list(params.iouThrs)}.')
    if names is None:
        names = [evaluator.cocoGt.cats[i]['name'] for i in params.catIds]
    precision = np.asarray(evaluator.eval['precision'])[at[0], :, :, 0, -1]  # (R, K)
    scores = np.asarray(evaluator.eval['scores'])[at[0], :, :, 0, -1]
    recall = np.asarray(params.recThrs)[:, None]
    f_measure = 2 * precision * recall / np.maximum(precision + recall, 1e-6)
    best = f_measure.argmax(0)
    table = {}
    for k, (name, r) in enumerate(zip(names, best, strict=True)):
        if f_measure[r, k] > 0:
            # just below the score itself, as a detection is shown when its float32 score is above the threshold
            threshold = np.nextafter(np.float32(scores[r, k]), np.float32(0))
            values = threshold, f_measure[r, k], precision[r, k], recall[r, 0]
            table[name] = dict(zip(('threshold', 'f_measure', 'precision', 'recall'), map(float, values), strict=True))
    return table
