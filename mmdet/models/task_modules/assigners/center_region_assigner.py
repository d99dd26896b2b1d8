"""Positives in the centre region of a box (FSAF, arXiv:1903.00621, Sec. 3.1).

Letters: B images, G padded ground truths, P priors, I ignored regions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import Assignment, BestMatch, PaddedGT, Priors, by_batch
from mmdet.registry import TASK_UTILS

from .assign_result import AssignResult
from .base_assigner import BaseAssigner


def scale_boxes(bboxes: Tensor, scale: float) -> Tensor:
    """xyxy boxes ``(..., 4)`` with sides scaled around their centres."""
    center, half = (bboxes[..., :2] + bboxes[..., 2:]) / 2, (bboxes[..., 2:] - bboxes[..., :2]) / 2 * scale
    return torch.cat([center - half, center + half], -1)


@TASK_UTILS.register_module()
class CenterRegionAssigner(BaseAssigner):
    """Priors that overlap the core of a box, with the centre in the box, are positive; of several boxes the smallest
    wins. A prior in the shadow of a box, around its core or under a smaller one, is not trained for that box's class.

    Args:
        pos_scale, neg_scale: Sides of core and shadow over those of the box.
        min_pos_iof: Part of a prior that core or shadow must cover.
        ignore_gt_scale: Sides of the part of an ignored region whose priors are ignored.
        foreground_dominate: Whether a prior in one core and the shadow of another box of the same class stays
            positive; else it is ignored.
    """

    def __init__(
        self,
        pos_scale: float,
        neg_scale: float,
        min_pos_iof: float = 1e-2,
        ignore_gt_scale: float = 0.5,
        foreground_dominate: bool = False,
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
    ) -> None:
        self.pos_scale, self.neg_scale, self.min_pos_iof = pos_scale, neg_scale, min_pos_iof
        self.ignore_gt_scale, self.foreground_dominate = ignore_gt_scale, foreground_dominate
        self.iou_calculator = TASK_UTILS.build(iou_calculator)

    def get_gt_priorities(self, gt_bboxes: Tensor) -> Tensor:
        """Rank ``(..., G)`` of boxes ``(..., G, 4)``, highest for the smallest."""
        area = (gt_bboxes[..., 2] - gt_bboxes[..., 0]) * (gt_bboxes[..., 3] - gt_bboxes[..., 1])
        return area.argsort(dim=-1, descending=True, stable=True).argsort(-1)

    def assign_one_hot_gt_indices(
        self, is_prior_in_gt_core: Tensor, is_prior_in_gt_shadow: Tensor, gt_priority: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``(P,)`` ground truths, counted from 1, whose core a prior lies in, and pairs ``(k, 2)`` of a prior and the
        ground truth, counted from 0, in whose shadow it lies or which lost it to another.

        Args:
            is_prior_in_gt_core, is_prior_in_gt_shadow: ``(P, n)`` bool.
            gt_priority: ``(n,)``, the highest wins; the last one by default.
        """
        core, count = is_prior_in_gt_core, is_prior_in_gt_core.shape[1]
        if not count:
            return core.new_zeros(len(core), dtype=torch.long), core.new_zeros(0, 2, dtype=torch.long)
        order = torch.arange(count, device=core.device) if gt_priority is None else gt_priority
        best = torch.where(core, order, -1).argmax(1)
        inds = torch.where(core.any(1), best + 1, 0)
        own = torch.arange(1, count + 1, device=core.device) == inds[:, None]
        return inds, ((core | is_prior_in_gt_shadow) & ~own).nonzero()

    def assign_batch(self, priors: Priors, gt: PaddedGT, *, scores=None, bboxes=None, **kwargs) -> Assignment:
        """``extras['shadowed']``: ``(B, G, P)`` bool, in the shadow of which boxes a prior lies."""
        boxes = priors.expanded().float()
        centers = (boxes[..., :2] + boxes[..., 2:]) / 2
        priority = self.get_gt_priorities(gt.boxes)
        match, shadows = BestMatch(priors.valid, start=-1.0), []
        for part in gt.chunks(boxes.shape[1], matrices=4):
            group, mask = gt.boxes[:, part].float(), gt.mask[:, part, None]
            core = self._covered(boxes, scale_boxes(group, self.pos_scale)) & _located_in(centers, group) & mask
            shadow = self._covered(boxes, scale_boxes(group, self.neg_scale)) & mask
            match.update(torch.where(core, priority[:, part, None].float(), -1.0), part)
            shadows.append(core | shadow)
        inds = torch.where(match.score >= 0, match.gt_inds, 0)
        if gt.ignored is not None:
            regions = scale_boxes(gt.ignored.float(), self.ignore_gt_scale)
            inds = inds.masked_fill((_located_in(centers, regions) & gt.ignored_mask[..., None]).any(1), -1)

        own = torch.arange(1, gt.mask.shape[1] + 1, device=inds.device)[:, None]
        shadowed = torch.cat(shadows, 1) & (match.gt_inds.where(match.score >= 0, 0)[:, None] != own)
        label = torch.where(inds > 0, gt.gather(inds)[1], -1)
        same = shadowed & (gt.labels[..., None] == label[:, None])
        if self.foreground_dominate:
            shadowed = shadowed & ~same
        else:
            inds = inds.masked_fill(same.any(1), -1)
        return Assignment(inds.masked_fill(~priors.valid, -1), None, dict(shadowed=shadowed))

    def _covered(self, boxes: Tensor, regions: Tensor) -> Tensor:
        """``(B, g, P)`` bool: whether enough of a prior lies in a region."""
        return (self.iou_calculator(boxes, regions, mode='iof') > self.min_pos_iof).transpose(1, 2)

    @by_batch
    def assign(self, pred_instances, gt_instances, gt_instances_ignore=None, **kwargs) -> AssignResult:
        """One image; the property ``shadowed_labels`` holds pairs ``(n, 2)`` of a prior and a class to leave out."""
        result = super().assign(pred_instances, gt_instances, gt_instances_ignore, **kwargs)
        index, prior = result._extra_properties.pop('shadowed')[: len(gt_instances)].nonzero(as_tuple=True)
        result.set_extra_property('shadowed_labels', torch.stack([prior, gt_instances.labels[index]], 1))
        return result


def _located_in(points: Tensor, boxes: Tensor) -> Tensor:
    """``(B, g, P)`` bool: whether points ``(B, P, 2)`` lie inside boxes ``(B, g, 4)``."""
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    return ((points[:, None] > low) & (points[:, None] < high)).all(-1)
