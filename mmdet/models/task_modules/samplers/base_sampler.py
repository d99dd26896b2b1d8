"""The two faces of a sampler: one image by ``sample``, a batch by ``draw``."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Assignment, PaddedGT, Priors, RoISamples, as_masks, by_batch, draw, labels_of, overridden
from mmdet.models.core.sampling import first, negative_room
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

    def pos_keys(self, assignment: Assignment, limit: int, **kwargs) -> Tensor | None:
        """``(B, P)``, at least 0: the ``limit`` positives of the highest keys are drawn; None for random ones."""
        return None

    def neg_keys(self, assignment: Assignment, room: Tensor, **kwargs) -> Tensor | None:
        """The same for negatives, of which ``room (B, 1)`` are drawn."""
        return None

    def draw(self, assignment: Assignment, **kwargs) -> Drawn:
        """Indices ``(B, K)`` of the drawn positives and their validity, then of the negatives; no host sync."""
        limit = int(self.num * self.pos_fraction)
        pos = draw(assignment.pos, limit, self.pos_sampler.pos_keys(assignment, limit, **kwargs))
        room = negative_room(pos[1], self.num, self.neg_pos_ub)
        neg, valid = draw(assignment.neg, self.num, self.neg_sampler.neg_keys(assignment, room, **kwargs))
        return *pos, neg, first(valid, room)

    def sample_batch(
        self,
        priors: Priors,
        assignment: Assignment,
        gt: PaddedGT,
        gt_instances: Sequence[InstanceData],
        **kwargs,
    ) -> RoISamples:
        """Draw regions from the proposals ``priors`` of a batch, to which the ground truths are added if so configured.

        Keyword arguments, such as the feature maps ``feats`` for OHEM, go to
        :meth:`pos_keys` and :meth:`neg_keys`.
        """
        if overridden(self, 'sample'):
            return RoISamples.from_results(self._sample_each(priors, assignment, gt, gt_instances, **kwargs), gt)
        boxes, inds, quality = priors.expanded(), assignment.gt_inds, assignment.quality
        is_gt = torch.zeros_like(inds, dtype=torch.bool)
        if self.add_gt_as_proposals:
            own = torch.arange(1, gt.mask.shape[1] + 1, device=inds.device)
            boxes = torch.cat([gt.boxes.to(boxes.dtype), boxes], 1)
            inds = torch.cat([torch.where(gt.mask, own, -1), inds], 1)
            is_gt = torch.cat([gt.mask, is_gt], 1)
            if quality is not None:
                quality = torch.cat([gt.mask.to(quality.dtype), quality], 1)
        drawn = self.draw(Assignment(inds, quality), boxes=boxes, gt=gt, **kwargs)
        return RoISamples.from_drawn(boxes, inds, is_gt, gt, drawn, self.num)

    def _sample_each(self, priors, assignment, gt, gt_instances, feats=None, **kwargs) -> list[SamplingResult]:
        labels = labels_of(assignment, gt)
        results = []
        for b, instances in enumerate(gt_instances):
            keep = priors.valid[b]
            quality = assignment.quality[b][keep] if assignment.quality is not None else None
            image = AssignResult(len(instances), assignment.gt_inds[b][keep], quality, labels[b][keep])
            pred = InstanceData(priors=priors.expanded()[b][keep])
            maps = {} if feats is None else dict(feats=[level[b : b + 1] for level in feats])
            results.append(self.sample(image, pred, instances, **maps))
        return results

    def masks(self, assignment: Assignment, **kwargs) -> tuple[Tensor, Tensor]:
        """``(B, P)`` bool of drawn positives and negatives: what a dense head needs."""
        pos, pos_valid, neg, neg_valid = self.draw(assignment, **kwargs)
        count = assignment.gt_inds.shape[1]
        return as_masks(pos, pos_valid, count), as_masks(neg, neg_valid, count)

    @by_batch
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
