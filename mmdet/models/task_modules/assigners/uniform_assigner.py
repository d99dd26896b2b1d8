"""As many anchors for every ground truth (YOLOF, arXiv:2103.09460). Letters: B images, G ground truths, P anchors."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, PaddedGT, Priors, by_batch, stable_topk
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_xyxy_to_cxcywh

from .assign_result import AssignResult
from .base_assigner import BaseAssigner


@TASK_UTILS.register_module()
class UniformAssigner(BaseAssigner):
    """The ``match_times`` nearest anchors of a box, and those of the nearest predictions, by the L1 distance of centres
    and sides.

    Args:
        pos_ignore_thr: A pair whose anchor overlaps the box by less is ignored.
        neg_ignore_thr: An anchor whose prediction overlaps any box by more is no background.

    The assignment has among its extras the ``pairs (B, G, 2 * match_times)``, indices of anchors, and which of them
    ``counted``. An anchor of several pairs belongs to the last one: the farther of its box, then that of the anchors,
    then the last box.
    """

    def __init__(
        self,
        pos_ignore_thr: float,
        neg_ignore_thr: float,
        match_times: int = 4,
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
    ) -> None:
        self.pos_ignore_thr, self.neg_ignore_thr, self.match_times = pos_ignore_thr, neg_ignore_thr, match_times
        self.iou_calculator = TASK_UTILS.build(iou_calculator)

    @torch.no_grad()
    def assign_batch(
        self, priors: Priors, gt: PaddedGT, *, scores: Any = None, bboxes: Tensor | None = None, **kwargs: Any
    ) -> Assignment:
        if bboxes is None:
            raise UserValueError('UniformAssigner needs the predicted bboxes')
        anchors = priors.expanded()
        boxes = bboxes.detach().to(anchors.dtype)
        far = torch.where(priors.valid, 0.0, torch.inf)[:, None]
        best = torch.zeros_like(far[:, 0])
        nearest: list[list[Tensor]] = [[], []]
        overlaps: list[list[Tensor]] = [[], []]
        for part in gt.chunks(anchors.shape[1], matrices=4):
            truth = gt.boxes[:, part]
            overlap = self.iou_calculator(truth, boxes).masked_fill(~gt.mask[:, part, None], 0)  # (B, g, P)
            best = torch.maximum(best, overlap.amax(1))
            of_anchors = self.iou_calculator(truth, anchors)
            for found, shares, candidates in zip(nearest, overlaps, (boxes, anchors)):
                distance = torch.cdist(bbox_xyxy_to_cxcywh(truth), bbox_xyxy_to_cxcywh(candidates), p=1) + far
                index = stable_topk(distance, self.match_times, largest=False)[1]
                found.append(index)
                shares.append(of_anchors.gather(-1, index))
        joined = lambda parts: torch.cat([torch.cat(part, 1) for part in parts], -1)  # predictions, then anchors
        pairs, share = joined(nearest), joined(overlaps)
        exists = gt.mask[..., None] & priors.valid.gather(1, pairs.flatten(1)).view_as(pairs)
        counted = exists & (share >= self.pos_ignore_thr)
        inds = self._last(pairs, exists, counted, best > self.neg_ignore_thr)
        return Assignment(inds.masked_fill(~priors.valid, -1), best, dict(pairs=pairs, counted=counted))

    def _last(self, pairs: Tensor, exists: Tensor, counted: Tensor, covered: Tensor) -> Tensor:
        """``gt_inds (B, P)`` where the last pair of an anchor rules, in the order rank, kind, ground truth."""
        num_gt = pairs.shape[1]
        in_order = lambda value: value.unflatten(-1, (2, -1)).permute(0, 3, 2, 1).flatten(1)  # (B, K * 2 * G)
        flat = in_order(pairs)
        order = torch.arange(1, flat.shape[1] + 1, device=flat.device).expand_as(flat)
        order = torch.where(in_order(exists), order, 0)
        last = torch.zeros_like(covered, dtype=torch.long).scatter_reduce(1, flat, order, 'amax')
        place = (last - 1).clamp(min=0)
        positive = in_order(counted).gather(1, place)
        ruled = torch.where(positive, place % num_gt + 1, -1)
        return torch.where(last > 0, ruled, torch.where(covered, -1, 0))

    @by_batch
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs: Any,
    ) -> AssignResult:
        """Assign one image.

        Args:
            pred_instances: ``priors (P, 4)`` and the boxes predicted from them, ``decoder_priors (P, 4)``.

        Returns:
            With the extra properties ``pos_idx (n,)``, ``pos_predicted_boxes (n, 4)`` and ``target_boxes (n, 4)``
            of all pairs.
        """
        boxes = pred_instances.decoder_priors
        anchors = pred_instances.priors
        gt = PaddedGT.from_instances([gt_instances])
        valid = torch.ones(1, len(anchors), dtype=torch.bool, device=anchors.device)
        found = self.assign_batch(Priors(anchors[None], valid, [len(anchors)]), gt, bboxes=boxes[None])
        labels = torch.where(found.pos, gt.gather(found.gt_inds)[1], -1)
        result = AssignResult(len(gt_instances), found.gt_inds[0], found.quality[0], labels[0])
        count = len(gt_instances)
        pairs, counted = (found.extras[name][0, :count].flatten() for name in ('pairs', 'counted'))
        truth = gt.boxes[0, :count, None].expand(-1, found.extras['pairs'].shape[-1], -1).reshape(-1, 4)
        for name, value in dict(pos_idx=counted, pos_predicted_boxes=boxes[pairs], target_boxes=truth).items():
            result.set_extra_property(name, value)
        return result
