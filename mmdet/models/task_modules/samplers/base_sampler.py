"""The two faces of a sampler: a batch by ``draw``, one image by ``sample``, ``_sample_pos`` and ``_sample_neg``."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import (
    Assignment,
    AssignResult,
    PaddedGT,
    Priors,
    RoISamples,
    SamplingResult,
    as_masks,
    by_batch,
    draw,
)
from mmdet.structures.bbox import cat_boxes, get_box_tensor

# Indices (B, K) and validity (B, K) of positives, then of negatives; weights (B, P) too, if negatives have any.
Drawn = tuple[Tensor, ...]


class BaseSampler(metaclass=ABCMeta):
    """Draws ``num`` priors of each image, at most ``pos_fraction`` of them positive.

    Args:
        neg_pos_ub: Negatives for each positive at most; no limit below 0.
        add_gt_as_proposals: Whether the ground truths are candidates too.
    """

    avg_factor_with_neg = True

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

    @property
    def by_image(self) -> bool:
        """Whether research code replaced a method that draws from a single image; then :meth:`sample` is called."""
        methods = (self.sample, self.pos_sampler._sample_pos, self.neg_sampler._sample_neg)
        return not all(hasattr(method, 'by_batch') for method in methods)

    def draw(self, assignment: Assignment, **kwargs) -> Drawn:
        """Indices ``(B, K)`` of the drawn positives and their validity, then of the negatives; no host sync."""
        limit = int(self.num * self.pos_fraction)
        pos_keys = _keys(self.pos_sampler.pos_keys, assignment, limit, **kwargs)
        pos, pos_valid = draw(assignment.gt_inds > 0, limit, pos_keys)
        count = pos_valid.sum(1, keepdim=True)
        room = self.num - count
        if self.neg_pos_ub >= 0:
            room = torch.minimum(room, (count.clamp(min=1) * self.neg_pos_ub).long())
        neg_keys = _keys(self.neg_sampler.neg_keys, assignment, room, **kwargs)
        neg, neg_valid = draw(assignment.gt_inds == 0, self.num, neg_keys)
        return pos, pos_valid, neg, neg_valid & (torch.arange(neg.shape[1], device=neg.device) < room)

    def masks(self, assignment: Assignment, gt: PaddedGT | None = None) -> tuple[Tensor, Tensor]:
        """``(B, P)`` bool of drawn positives and negatives: what a dense head needs."""
        pos, pos_valid, neg, neg_valid, *_ = self.draw(assignment, gt=gt)
        count = assignment.gt_inds.shape[1]
        return as_masks(pos, pos_valid, count), as_masks(neg, neg_valid, count)

    def sample_batch(
        self,
        priors: Priors,
        assignment: Assignment,
        gt: PaddedGT,
        feats: Sequence[Tensor] = (),
        packed: bool = False,
    ) -> RoISamples:
        """Draw regions from the proposals ``priors`` of a batch, to which the ground truths are added if so configured.

        Args:
            feats: Feature maps, for samplers that look at the losses of candidates.
            packed: Whether empty slots are left out, see :class:`RoISamples`.
        """
        inds, quality = assignment.gt_inds, assignment.quality
        boxes = priors.boxes.expand(len(inds), -1, -1)
        is_gt = torch.zeros_like(inds, dtype=torch.bool)
        if self.add_gt_as_proposals:
            own = torch.arange(1, gt.mask.shape[1] + 1, device=inds.device)
            boxes = torch.cat([gt.boxes.to(boxes.dtype), boxes], 1)
            inds = torch.cat([torch.where(gt.mask, own, -1), inds], 1)
            is_gt = torch.cat([gt.mask, is_gt], 1)
            if quality is not None:
                quality = torch.cat([gt.mask.to(quality.dtype), quality], 1)
        drawn = self.draw(Assignment(inds, quality), boxes=boxes, gt=gt, feats=feats)
        slots = self.num if self.num >= 0 else boxes.shape[1]
        return RoISamples.from_drawn(boxes, inds, is_gt, gt, drawn, slots, packed)

    @by_batch
    def sample(
        self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> SamplingResult | tuple[SamplingResult, Tensor]:
        """Draw from the ``priors`` of one image; with weights of the negatives, if :meth:`_sample_neg` gives any."""
        gt_bboxes, priors = gt_instances.bboxes, pred_instances.priors
        if priors.ndim < 2:
            priors = priors[None]
        flags = torch.zeros(len(priors), dtype=torch.uint8, device=priors.device)
        if self.add_gt_as_proposals and len(gt_bboxes):
            own = get_box_tensor(gt_bboxes) if isinstance(priors, Tensor) else gt_bboxes
            priors = cat_boxes([own, priors])
            assign_result.add_gt_(gt_instances.labels)
            flags = torch.cat([flags.new_ones(len(gt_bboxes)), flags])
        room = int(self.num * self.pos_fraction)
        pos = self.pos_sampler._sample_pos(assign_result, room, bboxes=priors, **kwargs).unique()
        room = self.num - len(pos)
        if self.neg_pos_ub >= 0:
            room = min(room, int(self.neg_pos_ub * max(1, len(pos))))
        neg: Any = self.neg_sampler._sample_neg(assign_result, room, bboxes=priors, **kwargs)
        neg, *weights = neg if isinstance(neg, tuple) else [neg.unique()]
        result = SamplingResult(
            pos, neg, priors, gt_bboxes, assign_result, flags, avg_factor_with_neg=self.avg_factor_with_neg
        )
        return (result, *weights) if weights else result

    @by_batch
    def _sample_pos(self, assign_result: AssignResult, num_expected: int, **kwargs) -> Tensor:
        """Indices of at most ``num_expected`` positives of one image; ``bboxes`` and ``feats`` come as keywords."""
        image = _batch_of_one(assign_result)
        index, valid = draw(image.pos, num_expected, _keys(self.pos_keys, image, num_expected, **kwargs))
        return index[valid]

    @by_batch
    def _sample_neg(self, assign_result: AssignResult, num_expected: int, **kwargs) -> Tensor:
        """The same for negatives."""
        image = _batch_of_one(assign_result)
        room = image.gt_inds.new_tensor([[num_expected]])
        index, valid = draw(image.neg, num_expected, _keys(self.neg_keys, image, room, **kwargs))
        return index[valid]


def _keys(keys: Callable, assignment: Assignment, amount: int | Tensor, **kwargs) -> Tensor | None:
    """Keys by which candidates are drawn; a rule never meets an image without candidates."""
    return keys(assignment, amount, **kwargs) if assignment.gt_inds.shape[1] else None


def _batch_of_one(assign_result: AssignResult) -> Assignment:
    overlaps = assign_result.max_overlaps
    return Assignment(assign_result.gt_inds[None], None if overlaps is None else overlaps[None])
