"""Regions with several ground truths each.

Letters: B images, S slots, M instances of a region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from mmdet.models.core import AssignResult, PaddedGT, RoISamples, SamplingResult, pad_batch
from mmdet.structures.bbox import get_box_tensor


class MultiInstanceSamplingResult(SamplingResult):
    """Positives and negatives of one image; a region is positive by its first instance.

    Attributes:
        pos_gt_bboxes, neg_gt_bboxes: ``(n, M, 4)`` boxes of the instances.
        pos_gt_labels, neg_gt_labels: ``(n, M)``: 1 for objects, 0 for background, -1 for what is ignored.
    """

    def __init__(
        self,
        pos_inds: Tensor,
        neg_inds: Tensor,
        priors: Tensor,
        gt_and_ignore_bboxes: Tensor,
        assign_result: AssignResult,
        gt_flags: Tensor,
        avg_factor_with_neg: bool = True,
    ) -> None:
        self._keep(pos_inds, neg_inds, priors, gt_flags, avg_factor_with_neg)
        self.num_gts = len(gt_and_ignore_bboxes)
        assert assign_result.labels is not None
        boxes = get_box_tensor(gt_and_ignore_bboxes)
        boxes = boxes if len(boxes) else boxes.new_zeros(1, 4)  # what stands for the instances of background
        for kind, inds in (('pos', pos_inds), ('neg', neg_inds)):
            assigned = assign_result.gt_inds[inds].long()
            setattr(self, f'{kind}_assigned_gt_inds', assigned)
            setattr(self, f'{kind}_gt_bboxes', boxes[assigned])
            setattr(self, f'{kind}_gt_labels', assign_result.labels[inds])


@dataclass
class InstanceSets(RoISamples):
    """Slots of a batch with M instances each; iterates as :class:`MultiInstanceSamplingResult`.

    Attributes:
        instance_boxes: ``(B, S, M, 4)``, meaningful where the label is 1.
        instance_labels: ``(B, S, M)``: 1 for objects, 0 for background, -1 for what is ignored.
    """

    results: list | None = None
    instance_boxes: Any = None
    instance_labels: Any = None

    @classmethod
    def of_instances(cls, boxes: Tensor, instance_inds: Tensor, is_gt: Tensor, gt: PaddedGT, *drawn: Any) -> Self:
        """:meth:`from_drawn` with ``instance_inds (B, N, M)`` of the candidates, as in ``Assignment``."""
        samples = cls.from_drawn(boxes, instance_inds[..., 0], is_gt, gt, *drawn)
        assert samples.index is not None
        inds = instance_inds.gather(1, samples.index[..., None].expand(-1, -1, instance_inds.shape[2]))
        samples.instance_boxes = gt.gather(inds.flatten(1))[0].unflatten(1, inds.shape[1:])
        samples.instance_labels = inds.clamp(max=1)
        return samples

    def __iter__(self) -> Iterator[MultiInstanceSamplingResult]:
        results: list = self.results or [self._result(b) for b in range(len(self.boxes))]
        self.results = results
        return iter(results)

    def _result(self, b: int) -> MultiInstanceSamplingResult:
        used = self.valid[b]
        pos, boxes, labels = self.pos[b][used], self.instance_boxes[b][used], self.instance_labels[b][used]
        own = torch.arange(labels.numel(), device=labels.device).view(labels.shape)
        return MultiInstanceSamplingResult(
            pos.nonzero().flatten(),
            (~pos).nonzero().flatten(),
            self.boxes[b][used],
            boxes.flatten(0, 1),
            AssignResult(labels.numel(), own, None, labels),
            self.is_gt[b][used].to(torch.uint8),
        )


def as_sets(results: Sequence[Any]) -> InstanceSets:
    """What was drawn image by image, in slots; rows are in the order of the results, positives first."""

    def of_both(name: str) -> Tensor:
        return pad_batch([torch.cat([getattr(r, f'pos_{name}'), getattr(r, f'neg_{name}')]) for r in results])

    boxes = [get_box_tensor(result.priors) for result in results]
    valid = pad_batch([box.new_ones(len(box), dtype=torch.bool) for box in boxes])
    counts = valid.new_tensor([len(result.pos_priors) for result in results], dtype=torch.long)
    place = torch.arange(valid.shape[1], device=valid.device)
    is_gt = [torch.cat([r.pos_is_gt.bool(), r.pos_is_gt.new_zeros(len(r.neg_priors)).bool()]) for r in results]
    instance_boxes, labels = of_both('gt_bboxes'), of_both('gt_labels')
    return InstanceSets(
        pad_batch(boxes),
        valid,
        place < counts[:, None],
        of_both('assigned_gt_inds')[..., 0],
        instance_boxes[:, :, 0],
        labels[..., 0],
        pad_batch(is_gt),
        num_pos_slots=max(1, *(len(result.pos_priors) for result in results)),
        packed=True,
        results=list(results),
        instance_boxes=instance_boxes,
        instance_labels=labels,
    )
