"""Samples as research code knows them, image by image, and the way from batches of slots."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmdet.structures.bbox import BaseBoxes, cat_boxes
from mmdet.utils.util_random import ensure_rng

from .assign_result import AssignResult


class SamplingResult:
    """Positives and negatives drawn from the priors of one image.

    Attributes:
        pos_inds, neg_inds: Indices into the priors.
        pos_priors, neg_priors: The priors themselves.
        pos_is_gt: 1 where a positive is a ground truth that was added to the proposals.
        pos_assigned_gt_inds, pos_gt_bboxes, pos_gt_labels: Ground truth of each positive.
        neg_label_weights: Weight of each negative in the classification, where a sampler has given one.
    """

    neg_label_weights: Tensor | None = None

    def __init__(
        self,
        pos_inds: Tensor,
        neg_inds: Tensor,
        priors: Tensor,
        gt_bboxes: Tensor,
        assign_result: AssignResult,
        gt_flags: Tensor,
        avg_factor_with_neg: bool = True,
    ) -> None:
        self._keep(pos_inds, neg_inds, priors, gt_flags, avg_factor_with_neg)
        self.num_gts = len(gt_bboxes)
        self.pos_assigned_gt_inds = assign_result.gt_inds[pos_inds] - 1
        assert assign_result.labels is not None
        self.pos_gt_labels = assign_result.labels[pos_inds]
        box_dim = gt_bboxes.box_dim if isinstance(gt_bboxes, BaseBoxes) else 4
        if self.num_gts == 0:
            self.pos_gt_bboxes = gt_bboxes.view(-1, box_dim)
        else:
            self.pos_gt_bboxes = gt_bboxes[self.pos_assigned_gt_inds.long()]

    def _keep(
        self, pos_inds: Tensor, neg_inds: Tensor, priors: Tensor, gt_flags: Tensor, avg_factor_with_neg: bool
    ) -> None:
        """What does not depend on the ground truths."""
        self.pos_inds, self.neg_inds = pos_inds, neg_inds
        self.num_pos, self.num_neg = max(pos_inds.numel(), 1), max(neg_inds.numel(), 1)
        self.avg_factor_with_neg = avg_factor_with_neg
        self.avg_factor = self.num_pos + self.num_neg if avg_factor_with_neg else self.num_pos
        self.pos_priors, self.neg_priors = priors[pos_inds], priors[neg_inds]
        self.pos_is_gt = gt_flags[pos_inds]

    @property
    def priors(self) -> Tensor:
        """The drawn priors, positives first."""
        return cat_boxes([self.pos_priors, self.neg_priors])

    bboxes = priors

    @property
    def pos_bboxes(self) -> Tensor:
        """The old name of ``pos_priors``."""
        return self.pos_priors

    @property
    def neg_bboxes(self) -> Tensor:
        """The old name of ``neg_priors``."""
        return self.neg_priors

    def to(self, device: str | torch.device) -> SamplingResult:
        """Move all tensors and boxes, in place."""
        for name, value in self.__dict__.items():
            if isinstance(value, (Tensor, BaseBoxes)):
                setattr(self, name, value.to(device))
        return self

    @property
    def info(self) -> dict:
        """Indices, boxes and ground truths of what was drawn."""
        boxes = 'pos_inds neg_inds pos_bboxes neg_bboxes'
        matches = 'pos_is_gt num_gts pos_assigned_gt_inds num_pos num_neg avg_factor'
        return {name: getattr(self, name) for name in f'{boxes} {matches}'.split()}

    @classmethod
    def random(cls, rng: Any = None, **kwargs) -> SamplingResult:
        """A draw of random boxes, for tests; ``kwargs`` are those of :meth:`AssignResult.random`."""
        rng = ensure_rng(rng)
        result = AssignResult.random(rng=rng, **{'p_use_label': 1.0, **kwargs})
        if result.labels is None:
            result.labels = torch.full_like(result.gt_inds, -1)
        priors, gt_bboxes = (_random_boxes(count, rng) for count in (result.num_preds, result.num_gts))
        pos, neg = (result.gt_inds > 0).nonzero().flatten(), (result.gt_inds == 0).nonzero().flatten()
        return cls(pos, neg, priors, gt_bboxes, result, torch.zeros(len(priors), dtype=torch.uint8))

    def __repr__(self) -> str:
        return f'<SamplingResult(num_gts={self.num_gts}, num_pos={len(self.pos_inds)}, num_neg={len(self.neg_inds)})>'


def _random_boxes(count: int, rng: Any) -> Tensor:
    low, high = torch.from_numpy(rng.rand(2, count, 2).astype('float32')).sort(0).values
    return torch.cat([low, high], -1)


def results_of(samples: Any) -> list[SamplingResult]:
    """What a ``RoISamples`` holds of each image, as a sampler's ``sample`` would return it."""
    results = []
    for b, used in enumerate(samples.valid):
        pos, count = samples.pos[b], samples.gt.counts[b]
        assigned = torch.where(pos, samples.gt_inds[b] + 1, 0)
        labels = torch.where(pos, samples.gt_labels[b], -1)
        result = SamplingResult(
            (used & pos).nonzero().flatten(),
            (used & ~pos).nonzero().flatten(),
            samples.boxes[b],
            samples.gt.boxes[b, :count],
            AssignResult(count, assigned, torch.zeros_like(assigned, dtype=torch.float32), labels),
            samples.is_gt[b].to(torch.uint8),
        )
        if samples.neg_weights is not None:
            result.neg_label_weights = samples.neg_weights[b, result.neg_inds]
        results.append(result)
    return results
