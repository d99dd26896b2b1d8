"""Assigners that look at predictions: SimOTA, soft labels and task alignment.

Letters: B images, G padded ground truths, g of them in one part, P priors of all levels, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    GTMasks,
    PaddedGT,
    Priors,
    best_of_aligned,
    by_batch,
    columns,
    dynamic_k,
)
from mmdet.registry import TASK_UTILS

from .assign_result import AssignResult
from .atss_assigner import MARGIN
from .base_assigner import BaseAssigner

OUTSIDE = 100000.0  # cost of a prior that is not near the centre of the box, by which such come last
EPS = 1e-7


class PredictionAssigner(BaseAssigner):
    """What assigners that compare predicted with true boxes share."""

    def __init__(self, iou_calculator: dict) -> None:
        self.iou_calculator = TASK_UTILS.build(iou_calculator)

    def _checked(self, scores: Tensor | None, bboxes: Tensor | None) -> tuple[Tensor, Tensor]:
        if scores is None or bboxes is None:
            raise UserValueError(f'{type(self).__name__} needs the predicted scores and bboxes')
        return scores.detach().float(), bboxes.detach().float()

    def _overlaps(self, gt: PaddedGT, part: slice, bboxes: Tensor) -> Tensor:
        """``(B, g, P)`` of the ground truths of a part with the predicted boxes."""
        return self.iou_calculator(gt.boxes[:, part].float(), bboxes)

    def _matched(self, gt_inds: Tensor, gt: PaddedGT, bboxes: Tensor) -> Tensor:
        """``(B, P)`` overlap of each predicted box with its ground truth, 0 where it has none."""
        boxes, _ = gt.gather(gt_inds)
        overlap = self.iou_calculator(bboxes.flatten(0, 1), boxes.float().flatten(0, 1), is_aligned=True)
        return torch.where(gt_inds > 0, overlap.view_as(gt_inds), 0.0)


class DynamicKAssigner(PredictionAssigner):
    """An assigner whose ground truths choose how many priors they get, up to ``max_priors``."""

    @property
    def max_priors(self) -> int:
        """The most priors that a ground truth gets."""
        raise NotImplementedError

    def dynamic_k_matching(
        self, cost: Tensor, pairwise_ious: Tensor, num_gt: int, valid_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The choice for one image whose costs and overlaps ``(V, n)`` are known, for an ``assign`` of research code.

        Args:
            valid_mask: ``(P,)`` bool of the V priors that can be chosen; narrowed in place to the m that are.

        Returns:
            Overlaps and 0-based ground truths of these, each ``(m,)``.
        """
        empty = [InstanceData(bboxes=cost.new_zeros(num_gt, 4), labels=cost.new_zeros(num_gt).long())]
        usable = valid_mask.new_ones(1, len(cost))
        pairs = lambda part: (cost.T[None, part], pairwise_ious.T[None, part])
        inds = dynamic_k(pairs, usable, PaddedGT.from_instances(empty), self.max_priors)[0]
        chosen = inds > 0
        valid_mask[valid_mask.clone()] = chosen
        inds = inds[chosen] - 1
        return pairwise_ious[chosen].gather(1, inds[:, None])[:, 0], inds


def inside_boxes(x: Tensor, y: Tensor, boxes: Tensor) -> Tensor:
    """``(B, g, P)`` least distance of points ``(1 or B, P)`` to the sides of ``boxes (B, g, 4)``; above 0 inside."""
    x1, y1, x2, y2 = boxes[..., None].unbind(2)  # (B, g, 1)
    x, y = x[:, None], y[:, None]
    return torch.minimum(torch.minimum(x - x1, x2 - x), torch.minimum(y - y1, y2 - y))


@TASK_UTILS.register_module()
class SimOTAAssigner(DynamicKAssigner):
    """The cheapest priors in a box or around its centre, as many as the overlaps add up to (YOLOX, arXiv:2107.08430).

    Priors are ``(P, 4)``: the centre of the cell, and its strides. Scores are probabilities.

    Args:
        center_radius: Reach of the centre region, in strides.
        candidate_topk: Overlaps that are added up, and the most priors that a box gets.
        iou_weight, cls_weight: Weights of the two costs.
    """

    def __init__(
        self,
        center_radius: float = 2.5,
        candidate_topk: int = 10,
        iou_weight: float = 3.0,
        cls_weight: float = 1.0,
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
    ) -> None:
        super().__init__(iou_calculator)
        self.center_radius, self.candidate_topk = center_radius, candidate_topk
        self.iou_weight, self.cls_weight = iou_weight, cls_weight

    @property
    def max_priors(self) -> int:
        return self.candidate_topk

    @torch.no_grad()
    def assign_batch(self, priors: Priors, gt: PaddedGT, *, scores=None, bboxes=None, **kwargs) -> Assignment:
        scores, bboxes = self._checked(scores, bboxes)
        grid = priors.boxes.float()
        background = -(1 - scores).log().clamp(min=-100)  # (B, P, C), as PyTorch's cross entropy of probabilities
        total = background.sum(-1)[:, None]
        usable = torch.zeros_like(priors.valid)
        for part in gt.chunks(grid.shape[1], matrices=6):
            box, center = self._regions(grid, gt, part)
            usable = usable | ((box | center) & gt.mask[:, part, None]).any(1)
        usable = usable & priors.valid

        def pairs(part: slice) -> tuple[Tensor, Tensor]:
            overlap = self._overlaps(gt, part, bboxes)
            labels = gt.labels[:, part]
            hit = -columns(scores, labels).log().clamp(min=-100)
            box, center = self._regions(grid, gt, part)
            cost = (total - columns(background, labels) + hit) * self.cls_weight
            cost = cost - (overlap + EPS).log() * self.iou_weight + torch.where(box & center, 0.0, OUTSIDE)
            return cost, overlap

        inds = dynamic_k(pairs, usable, gt, self.candidate_topk)
        return Assignment(inds.masked_fill(~priors.valid, -1), self._matched(inds, gt, bboxes))

    def get_in_gt_and_in_center_info(self, priors: Tensor, gt_bboxes: Tensor) -> tuple[Tensor, Tensor]:
        """``(P,)`` bool of the V priors ``(P, 4)`` in a box or near a centre, and ``(V, n)`` whether in both."""
        truth = InstanceData(bboxes=gt_bboxes, labels=gt_bboxes.new_zeros(len(gt_bboxes)).long())
        box, center = self._regions(priors[None].float(), PaddedGT.from_instances([truth]), slice(None))
        box, center = box[0, : len(gt_bboxes)].T, center[0, : len(gt_bboxes)].T
        usable = (box | center).any(1)
        return usable, (box & center)[usable]

    def _regions(self, grid: Tensor, gt: PaddedGT, part: slice) -> tuple[Tensor, Tensor]:
        """``(B, g, P)`` bool each: which priors lie in a box, and which around its centre."""
        x, y, stride_x, stride_y = grid.unbind(-1)  # (1 or B, P)
        boxes = gt.boxes[:, part].float()
        center_x, center_y = ((boxes[..., i] + boxes[..., i + 2])[..., None] / 2 for i in (0, 1))
        near_x = (x[:, None] - center_x).abs() < self.center_radius * stride_x[:, None]
        near_y = (y[:, None] - center_y).abs() < self.center_radius * stride_y[:, None]
        return inside_boxes(x, y, boxes) > 0, near_x & near_y


@TASK_UTILS.register_module()
class DynamicSoftLabelAssigner(DynamicKAssigner):
    """SimOTA with the overlap as label and a cost that rises away from the centre (RTMDet, arXiv:2212.07784).

    Priors are ``(P, 4)``: the point of the cell, and its strides. Scores are logits.

    Args:
        soft_center_radius: Distance from the centre in strides at which that cost is 1 (alpha is 10, beta is this).
        topk: Overlaps that are added up, and the most priors that a box gets.
        iou_weight: Weight of the cost of the overlap.
    """

    def __init__(
        self,
        soft_center_radius: float = 3.0,
        topk: int = 13,
        iou_weight: float = 3.0,
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
    ) -> None:
        super().__init__(iou_calculator)
        self.soft_center_radius, self.topk, self.iou_weight = soft_center_radius, topk, iou_weight

    @property
    def max_priors(self) -> int:
        return self.topk

    @torch.no_grad()
    def assign_batch(self, priors: Priors, gt: PaddedGT, *, scores=None, bboxes=None, **kwargs) -> Assignment:
        scores, bboxes = self._checked(scores, bboxes)
        x, y, stride = priors.boxes.float().unbind(-1)[:3]
        probability = scores.sigmoid()
        background = F.softplus(scores) * probability.square()  # (B, P, C)
        total = background.sum(-1)[:, None]
        centers = self._centers(gt)
        usable = torch.zeros_like(priors.valid)
        for part in gt.chunks(x.shape[1], matrices=4):
            usable = usable | ((inside_boxes(x, y, gt.boxes[:, part].float()) > 0) & gt.mask[:, part, None]).any(1)
        usable = usable & priors.valid

        def pairs(part: slice) -> tuple[Tensor, Tensor]:
            overlap, labels = self._overlaps(gt, part, bboxes), gt.labels[:, part]
            logit = columns(scores, labels)
            hit = (F.softplus(logit) - logit * overlap) * (overlap - logit.sigmoid()).square()
            center = centers[:, part, :, None]  # (B, g, 2, 1)
            distance = ((x[:, None] - center[:, :, 0]).square() + (y[:, None] - center[:, :, 1]).square()).sqrt()
            away = torch.pow(10.0, distance / stride[:, None] - self.soft_center_radius)
            cost = total - columns(background, labels) + hit - (overlap + EPS).log() * self.iou_weight + away
            return cost, overlap

        inds = dynamic_k(pairs, usable, gt, self.topk)
        return Assignment(inds.masked_fill(~priors.valid, -1), self._matched(inds, gt, bboxes))

    def _centers(self, gt: PaddedGT) -> Tensor:
        """``(B, G, 2)`` centres of mass of the masks where there are any, else of the boxes."""
        if gt.instances and all(hasattr(instances, 'masks') for instances in gt.instances):
            boxes = gt.boxes
            masks = GTMasks.of([instances.masks for instances in gt.instances], boxes.device)
            return masks.padded(masks.centers()[1], gt.mask)
        return (gt.boxes[..., :2] + gt.boxes[..., 2:]).float() / 2


def center_of_mass(masks: Tensor, eps: float = 1e-7) -> Tensor:
    """Mean position ``(n, 2)`` xy in pixels of masks ``(n, H, W)``; about 0 for an empty one."""
    masks = masks.float()
    mass = masks.sum((1, 2)).clamp(min=eps)
    y, x = (torch.arange(size, device=masks.device, dtype=masks.dtype) for size in masks.shape[1:])
    return torch.stack([(masks.sum(1) * x).sum(1) / mass, (masks.sum(2) * y).sum(1) / mass], 1)


@TASK_UTILS.register_module()
class TaskAlignedAssigner(PredictionAssigner):
    """The ``topk`` priors in a box whose score and predicted box agree best (TOOD, arXiv:2108.07755, Sec. 3.2).

    Priors are boxes; scores are probabilities. The assignment has ``assign_metrics (B, P)`` among its extras.
    """

    def __init__(self, topk: int, iou_calculator: dict = dict(type='BboxOverlaps2D')) -> None:
        super().__init__(iou_calculator)
        if topk < 1:
            raise UserValueError(f'topk={topk} of TaskAlignedAssigner must be at least 1')
        self.topk = topk

    @by_batch
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        alpha: float = 1,
        beta: float = 6,
    ) -> AssignResult:
        """As that of the base class.

        Args:
            alpha, beta: Exponents of the score and of the overlap in the metric (Eq. 1).
        """
        return super().assign(pred_instances, gt_instances, gt_instances_ignore, alpha=alpha, beta=beta)

    @torch.no_grad()
    def assign_batch(
        self,
        priors: Priors,
        gt: PaddedGT,
        *,
        scores: Tensor | None = None,
        bboxes: Tensor | None = None,
        alpha: float = 1,
        beta: float = 6,
        **kwargs: Any,
    ) -> Assignment:
        scores, bboxes = self._checked(scores, bboxes)
        boxes = priors.boxes.float()
        x, y = ((boxes[..., i] + boxes[..., i + 2]) / 2 for i in (0, 1))

        def pairs(part: slice) -> tuple[Tensor, Tensor, Tensor]:
            overlap = self._overlaps(gt, part, bboxes)
            metric = columns(scores, gt.labels[:, part]) ** alpha * overlap**beta
            return metric, overlap, inside_boxes(x, y, gt.boxes[:, part].float()) > MARGIN

        inds = best_of_aligned(pairs, priors.valid, gt, self.topk)
        overlap, labels = self._matched(inds, gt, bboxes), gt.gather(inds)[1]
        metric = scores.gather(2, labels[..., None])[..., 0] ** alpha * overlap**beta
        extras = dict(assign_metrics=torch.where(inds > 0, metric, 0.0))
        return Assignment(inds.masked_fill(~priors.valid, -1), overlap, extras)
