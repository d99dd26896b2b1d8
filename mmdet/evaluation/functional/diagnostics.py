"""What is behind an AP: curves, confusions, kinds of errors and calibration of one evaluation, by hotcoco.

All take an evaluator that :func:`.coco_eval.evaluate_coco` has returned. K categories, in the order of its ``catIds``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmdet.datasets.api_wrappers import COCOeval
from mmdet.errors import UserImportError, UserValueError


def precision_recall_curves(evaluator: COCOeval, iou_thr: float = 0.5) -> dict[str, np.ndarray]:
    """``recall`` (R,), and ``precision`` and ``scores`` (K, R) there; NaN for a category without ground truth."""
    at = _threshold(evaluator, iou_thr)
    curves = {key: np.asarray(evaluator.eval[key])[at, :, :, 0, -1].T for key in ('precision', 'scores')}
    empty = curves['precision'] < 0
    found = {key: np.where(empty, np.nan, curve) for key, curve in curves.items()}
    return dict(recall=np.asarray(evaluator.params.recThrs), **found)


def confusion_matrix(
    evaluator: COCOeval, iou_thr: float = 0.5, score_thr: float = 0.0, max_dets: int | None = None
) -> np.ndarray:
    """(K + 1, K + 1) counts: rows are true categories, columns detected ones, the last of each is the background.

    Each detection, best first, takes at most one object of whatever category, and each object at most one detection.
    Crowds are no objects here. ``max_dets`` detections of an image count, by default as many as were evaluated.
    """
    found = _hotcoco(evaluator).confusion_matrix(iou_thr=iou_thr, max_det=max_dets, min_score=score_thr)
    return np.asarray(found['matrix']).astype(np.int64)


def error_types(evaluator: COCOeval, iou_thr: float = 0.5, background_thr: float = 0.1) -> dict[str, Any]:
    """The kinds of errors of TIDE (arXiv:2008.08115, Sec. 2.2).

    ``Cls``: wrong class. ``Loc``: right class, IoU between the two thresholds. ``Both``: both of these. ``Dupe``: the
    object has a better detection. ``Bkg``: on no object. ``Miss``: objects that no detection is near.

    Returns:
        ``ap``, by kind the ``counts`` and in ``cost`` the AP to be won without such errors, where ``FP`` and ``FN``
        stand for all false alarms and all objects not found.
    """
    _threshold(evaluator, iou_thr)
    found = _hotcoco(evaluator).tide_errors(pos_thr=iou_thr, bg_thr=background_thr)
    return dict(ap=found['ap_base'], counts=dict(found['counts']), cost=dict(found['delta_ap']))


def calibration(evaluator: COCOeval, bins: int = 10, iou_thr: float = 0.5) -> dict[str, Any]:
    """How far scores are from the part of detections that is right (arXiv:1706.04599, Sec. 2).

    Returns:
        ``error``: the expected calibration error, ``largest``: that of the worst bin, ``classes``: the error of each
        class, ``bins``: for each the limits, ``score`` and ``right`` (means of its detections) and ``count``.
    """
    _threshold(evaluator, iou_thr)
    found = _hotcoco(evaluator).calibration(n_bins=bins, iou_threshold=iou_thr)
    names = dict(low='bin_lower', high='bin_upper', score='avg_confidence', right='avg_accuracy', count='count')
    table = [{ours: entry[theirs] for ours, theirs in names.items()} for entry in found['bins']]
    return dict(error=found['ece'], largest=found['mce'], classes=dict(found['per_category']), bins=table)


def _threshold(evaluator: COCOeval, iou_thr: float) -> int:
    at = np.flatnonzero(np.isclose(evaluator.params.iouThrs, iou_thr))
    if not at.size:
        raise UserValueError(f'IoU {iou_thr} is not among those evaluated: {list(evaluator.params.iouThrs)}.')
    return int(at[0])


def _hotcoco(evaluator: COCOeval) -> Any:
    if not hasattr(evaluator.inner, 'tide_errors'):
        raise UserImportError('This needs an evaluation by hotcoco: pip install hotcoco')
    return evaluator.inner
