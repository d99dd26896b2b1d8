"""PISA (arXiv:1904.04821): importance-based sample reweighting and the classification-aware regression loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .iou_loss import AlignedBoxes
from .utils import column_weight


def _rank_in_group(score: Tensor, group: Tensor) -> Tensor:
    """Rank of each element, from 0 for the best score, among those of the same group; shape (N,)."""
    order = score.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    sorted_group = group[order]
    position = torch.arange(len(score), device=score.device)
    start = torch.ones_like(position, dtype=torch.bool)
    start[1:] = sorted_group[1:] != sorted_group[:-1]
    if len(score):
        position = position - torch.where(start, position, 0).cummax(0).values
    return torch.empty_like(position).scatter_(0, order, position)


def _class_boxes(bbox_pred: Tensor, labels: Tensor) -> Tensor:
    """Of class-specific regression (N, C * 4) the four values of the label, shape (N, 4)."""
    if bbox_pred.size(-1) <= 4:
        return bbox_pred
    per_class = bbox_pred.unflatten(-1, (-1, 4))
    index = labels.clamp(0, per_class.size(1) - 1)[:, None, None].expand(-1, 1, 4)
    return per_class.gather(1, index)[:, 0]


def isr_p(
    cls_score: Tensor,
    bbox_pred: Tensor,
    bbox_targets: Sequence[Tensor],
    rois: Tensor,
    sampling_results: Sequence[Any],
    loss_cls: Callable[..., Tensor],
    bbox_coder: Any,
    k: float = 2,
    bias: float = 0,
    num_class: int = 80,
    gt_inds: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Reweight positives by their IoU hierarchical local rank (Sec. 4.1 and 4.2); their loss keeps its sum.

    Args:
        bbox_targets: Labels (N,), label weights (N,), encoded boxes (N, 4) and their weights.
        rois: Boxes that ``bbox_coder`` decodes from, (N, 4), or (N, 5) with the image first.
        sampling_results: Per image, with ``pos_assigned_gt_inds``; positives are in the order of the rows.
        gt_inds: Ground truth of every row, different between images, shape (N,); in place of ``sampling_results``.

    Returns:
        ``bbox_targets`` with new label weights, which carry no gradient.
    """
    labels, label_weights, targets, weights = bbox_targets[:4]
    positive = (labels >= 0) & (labels < num_class)
    if gt_inds is None:
        gt_inds = _gt_of_rows(sampling_results, positive)
    with torch.no_grad():
        boxes = rois[..., -4:]
        safe = torch.where(positive[:, None], targets, 0)
        decoded = bbox_coder.decode(boxes, _class_boxes(bbox_pred, labels))
        overlap = AlignedBoxes.of(decoded, bbox_coder.decode(boxes, safe)).iou(1e-6)

        group = torch.where(positive, gt_inds, -1)
        per_class = torch.zeros(num_class + 1, device=labels.device, dtype=torch.long)
        per_class = per_class.scatter_add_(0, torch.where(positive, labels, num_class), positive.long())
        most = per_class[:num_class].max().clamp(min=1)
        # Step one ranks within a ground truth, step two all of a class: first the best of each, then the second ...
        local = overlap + most - _rank_in_group(overlap, group)
        rank = _rank_in_group(local, torch.where(positive, labels, -1))
        importance = (bias + label_weights * (most - rank) / most * (1 - bias)).clamp(min=0).pow(k)

        loss = loss_cls(cls_score, labels, reduction_override='none')
        loss = loss.flatten(1).sum(1) if loss.dim() > 1 else loss
        before, after = (loss * label_weights * positive).sum(), (loss * importance * positive).sum()
        ratio = torch.where(after > 0, before / after.clamp(min=torch.finfo(after.dtype).tiny), 1)
        new_weights = torch.where(positive, importance * ratio, label_weights)
    return labels, new_weights, targets, weights


def _gt_of_rows(sampling_results: Sequence[Any], positive: Tensor) -> Tensor:
    """Ground truths of the positives, numbered through the batch, at the rows of the positives."""
    numbered, offset = [], 0
    for result in sampling_results:
        inds = result.pos_assigned_gt_inds
        numbered.append(inds + offset)
        offset += result.num_gts
    flat = torch.cat(numbered) if numbered else positive.new_zeros(0, dtype=torch.long)
    if not len(flat):
        return torch.zeros_like(positive, dtype=torch.long)
    nth = (positive.long().cumsum(0) - 1).clamp(0, len(flat) - 1)
    return flat[nth]


def carl_loss(
    cls_score: Tensor,
    labels: Tensor,
    bbox_pred: Tensor,
    bbox_targets: Tensor,
    loss_bbox: Callable[..., Tensor],
    k: float = 1,
    bias: float = 0.2,
    avg_factor: float | Tensor | None = None,
    sigmoid: bool = False,
    num_class: int = 80,
) -> dict[str, Tensor]:
    """Regression loss of the positives weighted by their class score (Sec. 4.3, Eq. 7 and 8), which it trains too.

    Args:
        cls_score: Logits, shape (N, C) or (N, C + 1).
        bbox_pred: Shape (N, 4) or (N, C * 4).
        bbox_targets: Shape (N, 4).

    Returns:
        ``loss_carl`` of shape (1,).
    """
    positive = (labels >= 0) & (labels < num_class)
    score = cls_score.sigmoid() if sigmoid else cls_score.softmax(-1)
    score = score.gather(1, labels.clamp(0, num_class - 1)[:, None])[:, 0]
    weight = (bias + (1 - bias) * score).pow(k) * positive
    weight = weight * (positive.sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny))
    pred = _class_boxes(bbox_pred, labels)
    target = torch.where(positive[:, None], bbox_targets, pred.detach())
    loss = loss_bbox(pred, target, reduction_override='none')
    avg_factor = max(len(bbox_targets), 1) if avg_factor is None else avg_factor
    return {'loss_carl': ((loss * column_weight(weight, loss.dim())).sum() / avg_factor)[None]}
