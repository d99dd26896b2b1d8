"""Detections of several scales and flips merged by voting, as in the multi-scale test of ATSS (arXiv:1912.02424)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.structures.bbox import bbox_overlaps


def within_size(bboxes: Tensor, low: float, high: float) -> Tensor:
    """Mark the boxes (N, 4) whose size, the root of their area, lies between ``low`` and ``high``."""
    area = (bboxes[:, 2] - bboxes[:, 0]) * (bboxes[:, 3] - bboxes[:, 1])
    return (area > low**2) & (area < high**2)


def find_leaders(iou: Tensor, iou_thr: float) -> Tensor:
    """For each of N boxes in order of falling score the box that it belongs to, (N,).

    The best box takes all that overlap it by ``iou_thr`` or more, the best of the rest does the same, and so on.

    Args:
        iou: (N, N) overlaps.
    """
    close = (iou >= iou_thr).cpu()
    leader = torch.full((len(close),), -1)
    for i in range(len(close)):
        if leader[i] < 0:
            leader[close[i] & (leader < 0)] = i
            leader[i] = i
    return leader.to(iou.device)


def vote(
    bboxes: Tensor, scores: Tensor, iou_thr: float = 0.66, soft: bool = False, score_thr: float = 0.05
) -> tuple[Tensor, Tensor]:
    """Merge the boxes of one class into the score-weighted mean of each group of overlapping boxes.

    A group has the score of its best box. With ``soft`` the members of a group stay beside the mean, each with its
    score times one minus its overlap with the best box, if that is at least ``score_thr``.

    Args:
        bboxes: (N, 4) xyxy.
        scores: (N,).

    Returns:
        Boxes and scores, best first.
    """
    if not len(scores):
        return bboxes, scores
    scores, order = scores.sort(descending=True, stable=True)
    bboxes = bboxes[order]
    iou = bbox_overlaps(bboxes, bboxes)
    leader = find_leaders(iou, iou_thr)
    mass = torch.zeros_like(scores).index_add_(0, leader, scores)
    mean = torch.zeros_like(bboxes).index_add_(0, leader, bboxes * scores[:, None])
    index = torch.arange(len(scores), device=scores.device)
    heads = index == leader
    merged = mean[heads] / mass[heads, None].clamp(min=torch.finfo(scores.dtype).tiny)
    values = scores[heads]
    if soft:
        rest = scores * (1 - iou[leader, index])
        kept = ~heads & (rest >= score_thr)
        merged, values = torch.cat([merged, bboxes[kept]]), torch.cat([values, rest[kept]])
    values, order = values.sort(descending=True, stable=True)
    return merged[order], values


def batched_vote(
    bboxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_thr: float = 0.66,
    soft: bool = False,
    score_thr: float = 0.05,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`vote` within each class; boxes, scores and labels, best first."""
    parts = []
    for label in labels.unique():
        mine = labels == label
        merged, values = vote(bboxes[mine], scores[mine], iou_thr, soft, score_thr)
        parts.append((merged, values, label.expand(len(values))))
    if not parts:
        return bboxes, scores, labels
    bboxes, scores, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    order = scores.argsort(descending=True, stable=True)
    return bboxes[order], scores[order], labels[order]
