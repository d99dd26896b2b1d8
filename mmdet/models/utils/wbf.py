"""Weighted boxes fusion of several detectors (arXiv:1910.13302).

A row of the arrays here is label, weighted score, weight of its detector, index of the detector (-1 for a fused box),
and the corners of the box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmdet.errors import UserValueError

LABEL, SCORE, WEIGHT, MODEL, BOX = 0, 1, 2, 3, slice(4, 8)
CONF_TYPES = ('avg', 'max', 'box_and_model_avg', 'absent_model_aware_avg')


def weighted_boxes_fusion(
    bboxes_list: Sequence,
    scores_list: Sequence,
    labels_list: Sequence,
    weights: Sequence[float] | None = None,
    iou_thr: float = 0.55,
    skip_box_thr: float = 0.0,
    conf_type: str = 'avg',
    allows_overflow: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the boxes on which several detectors agree into their score-weighted mean.

    Args:
        bboxes_list: xyxy boxes (N, 4) of each detector.
        scores_list: Their scores (N,).
        labels_list: Their labels (N,).
        weights: Trust in each detector, 1 by default.
        iou_thr: A box joins the fused box of its class that it overlaps most, if by more than this.
        skip_box_thr: Boxes that score less are left out.
        conf_type: Score of a fused box: 'avg' and 'max' of its members, 'box_and_model_avg' (weighted mean times the
            share of detectors that saw it) or 'absent_model_aware_avg' (weighted mean in which absent detectors count).
        allows_overflow: Whether more members than detectors may raise a score above 1; for 'avg' alone.

    Returns:
        Boxes (M, 4), scores and labels (M,), best first.
    """
    if conf_type not in CONF_TYPES:
        raise UserValueError(f'conf_type must be one of {", ".join(CONF_TYPES)}, not {conf_type!r}')
    trust = np.ones(len(bboxes_list)) if weights is None else np.asarray(weights, dtype=float)
    if not len(trust) == len(bboxes_list) == len(scores_list) == len(labels_list):
        raise UserValueError(
            f'weights, boxes, scores and labels must be given for each detector, not for {len(trust)}, '
            f'{len(bboxes_list)}, {len(scores_list)} and {len(labels_list)}'
        )
    fused = [np.zeros((0, 8))]
    for rows in prefilter_boxes(bboxes_list, scores_list, labels_list, trust, skip_box_thr).values():
        fused.append(_fuse_class(rows, trust, iou_thr, conf_type, allows_overflow))
    found = np.concatenate(fused)
    found = found[np.argsort(-found[:, SCORE], kind='stable')]
    boxes, scores, labels = (torch.from_numpy(found[:, columns]) for columns in (BOX, SCORE, LABEL))
    return boxes.float(), scores.float(), labels.long()


def prefilter_boxes(
    boxes: Sequence, scores: Sequence, labels: Sequence, weights: Sequence[float], thr: float
) -> dict[int, np.ndarray]:
    """Label -> rows of all detectors, best first, without boxes that score less than ``thr`` or have no area."""
    parts = []
    for model, (box, score, label, weight) in enumerate(zip(boxes, scores, labels, weights, strict=True)):
        box, score, label = (_array(v) for v in (box, score, label))
        box = box.reshape(-1, 4)
        if not len(box) == len(score) == len(label):
            raise UserValueError(f'detector {model} has {len(box)} boxes, {len(score)} scores and {len(label)} labels')
        corners = np.concatenate([np.minimum(box[:, :2], box[:, 2:]), np.maximum(box[:, :2], box[:, 2:])], 1)
        constant = np.broadcast_to([weight, model], (len(box), 2))
        rows = np.concatenate([label[:, None], score[:, None] * weight, constant, corners], 1)
        parts.append(rows[(score >= thr) & (_area(corners) > 0)])
    rows = np.concatenate(parts) if parts else np.zeros((0, 8))
    rows = rows[np.argsort(-rows[:, SCORE], kind='stable')]
    return {int(label): rows[rows[:, LABEL] == label] for label in np.unique(rows[:, LABEL])}


def get_weighted_box(boxes: Sequence[np.ndarray], conf_type: str = 'avg') -> np.ndarray:
    """The fused box of a cluster, as a row: mean corners by score, mean or highest score, sum of weights."""
    rows = np.asarray(boxes)
    score = rows[:, SCORE]
    fused = np.zeros(8)
    fused[LABEL], fused[WEIGHT], fused[MODEL] = rows[0, LABEL], rows[:, WEIGHT].sum(), -1
    fused[SCORE] = score.max() if conf_type == 'max' else score.mean()
    fused[BOX] = score @ rows[:, BOX] / max(score.sum(), np.finfo(float).tiny)
    return fused


def find_matching_box_fast(boxes_list: np.ndarray, new_box: np.ndarray, match_iou: float) -> tuple[int, float]:
    """Index and overlap of the row that overlaps ``new_box`` most, or -1 and ``match_iou`` when none does by more."""
    if not len(boxes_list):
        return -1, match_iou
    boxes, box = boxes_list[:, BOX], new_box[BOX]
    size = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    common = size.clip(min=0).prod(1)
    iou = common / (_area(boxes) + _area(box) - common)
    iou[boxes_list[:, LABEL] != new_box[LABEL]] = -1
    best = int(iou.argmax())
    return (best, float(iou[best])) if iou[best] > match_iou else (-1, match_iou)


def _fuse_class(rows: np.ndarray, trust: np.ndarray, iou_thr: float, conf_type: str, overflow: bool) -> np.ndarray:
    clusters: list[list[np.ndarray]] = []
    fused = np.zeros((0, 8))
    for row in rows:  # in turn, since a fused box moves with each member
        best, _ = find_matching_box_fast(fused, row, iou_thr)
        if best < 0:
            clusters.append([row])
            fused = np.concatenate([fused, row[None]])
        else:
            clusters[best].append(row)
            fused[best] = get_weighted_box(clusters[best], conf_type)
    for row, cluster in zip(fused, clusters, strict=True):
        row[SCORE] *= _confidence(np.asarray(cluster), trust, conf_type, overflow)
    return fused


def _confidence(cluster: np.ndarray, trust: np.ndarray, conf_type: str, overflow: bool) -> float:
    """What the mean or highest weighted score of a cluster is multiplied by."""
    count, weight = len(cluster), cluster[:, WEIGHT].sum()
    models = np.unique(cluster[:, MODEL]).astype(int)
    if conf_type == 'max':
        return 1 / trust.max()
    if conf_type == 'box_and_model_avg':
        return count / weight * trust[models].sum() / trust.sum()
    if conf_type == 'absent_model_aware_avg':
        return count / (weight + np.delete(trust, models).sum())
    return (count if overflow else min(count, len(trust))) / trust.sum()


def _array(values: Tensor | Sequence) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=float)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
