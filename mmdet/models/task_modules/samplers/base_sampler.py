"""The two faces of a sampler: one image by ``sample``, a batch by ``draw``."""

from __future__ import annotations

from abc import ABCMeta

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Assignment, as_masks, draw_samples
from mmdet.models.task_modules.assigners.assign_result import AssignResult
from mmdet.structures.bbox import BaseBoxes, cat_boxes

from .sampling_result import SamplingResult

# Indices (B, K) and validity (B, K) of positives, then of negatives.
Drawn = tuple[Tensor, Tensor, Tensor, Tensor]


class BaseSampler(metaclass=ABCMeta):
    """Draws ``num`` priors of each image, at most ``pos_fraction`` of them positive.

    Args:
        neg_pos_ub: Negatives for each positive at most; no limit below 0.
        add_gt_as_proposals: Whether the ground truths are candidates too.
    """

    def __init__(
        self, num: int, pos_fraction: float, neg_pos_ub: int = -1, add_gt_as_proposals: bool = True, **kwargs
    ) -> None:
        self.num, self.pos_fraction, self.neg_pos_ub = num, pos_fraction, neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals
        self.pos_sampler = self.neg_sampler = self

    def keys(self, assignment: Assignment, **kwargs) -> tuple[Tensor | None, Tensor | None]:
        """``(B, P)`` at least 0, by which positives and negatives are preferred; None for random ones."""
        return None, None

    def draw(self, assignment: Assignment, **kwargs) -> Drawn:
        """Indices ``(B, K)`` of the drawn positives and their validity, then of the negatives; no host sync."""
        pos_keys, neg_keys = self.keys(assignment, **kwargs)
        return draw_samples(
            assignment.pos, assignment.neg, self.num, self.pos_fraction, self.neg_pos_ub, pos_keys, neg_keys
        )

    def masks(self, assignment: Assignment, **kwargs) -> tuple[Tensor, Tensor]:
        """``(B, P)`` bool of drawn positives and negatives: what a dense head needs."""
        pos, pos_valid, neg, neg_valid = self.draw(assignment, **kwargs)
        count = assignment.gt_inds.shape[1]
        return as_masks(pos, pos_valid, count), as_masks(neg, neg_valid, count)

    def sample(
        self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> SamplingResult:
        """Draw from the ``priors`` of one image."""
        gt_bboxes, priors = gt_instances.bboxes, pred_instances.priors
        if priors.ndim < 2:
            priors = priors[None]
        flags = torch.zeros(len(priors), dtype=torch.uint8, device=priors.device)
        if self.add_gt_as_proposals and len(gt_bboxes):
            own = (
                gt_bboxes if isinstance(priors, BaseBoxes) or not isinstance(gt_bboxes, BaseBoxes) else gt_bboxes.tensor
            )
            priors = cat_boxes([own, priors])
            assign_result.add_gt_(gt_instances.labels)
            flags = torch.cat([flags.new_ones(len(gt_bboxes)), flags])
        pos, neg = self._sample_image(assign_result, priors, **kwargs)
        return SamplingResult(
            pos, neg, priors, gt_bboxes, assign_result, flags, avg_factor_with_neg=self.avg_factor_with_neg
        )

    avg_factor_with_neg = True

    def _sample_image(self, assign_result: AssignResult, priors: Tensor, **kwargs) -> tuple[Tensor, Tensor]:
        overlaps = assign_result.max_overlaps
        single = Assignment(assign_result.gt_inds[None], None if overlaps is None else overlaps[None])
        pos, pos_valid, neg, neg_valid = self.draw(single, **kwargs)
        return pos[pos_valid].unique(), neg[neg_valid].unique()
