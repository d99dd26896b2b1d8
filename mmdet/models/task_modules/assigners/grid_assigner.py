"""YOLOv3's rule (arXiv:1804.02767). Letters: B images, G ground truths, g of them in a part, P anchors."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, BestMatch, PaddedGT, Priors, by_batch
from mmdet.registry import TASK_UTILS

from .assign_result import AssignResult
from .base_assigner import BaseAssigner


@TASK_UTILS.register_module()
class GridAssigner(BaseAssigner):
    """Anchors of the cells with the centre of a box are its candidates; those that overlap it most are positive.

    Args:
        pos_iou_thr: A candidate that overlaps a box by more is positive too.
        neg_iou_thr: Anchors that overlap no box by more are background; or a range, its lower end left out.
        min_pos_iou: The best candidate of a box must overlap it by more.
        gt_max_assign_all: Whether all candidates of the greatest overlap are positive, or the first alone.

    ``responsible (B, P)`` tells :meth:`assign_batch` which anchors lie in such cells.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float | tuple[float, float],
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
    ) -> None:
        self.pos_iou_thr, self.neg_iou_thr, self.min_pos_iou = pos_iou_thr, neg_iou_thr, min_pos_iou
        self.gt_max_assign_all = gt_max_assign_all
        self.iou_calculator = TASK_UTILS.build(iou_calculator)

    @torch.no_grad()
    def assign_batch(
        self,
        priors: Priors,
        gt: PaddedGT,
        *,
        scores: Any = None,
        bboxes: Any = None,
        responsible: Tensor | None = None,
        **kwargs: Any,
    ) -> Assignment:
        if responsible is None:
            raise UserValueError('GridAssigner needs to know the responsible anchors')
        boxes = priors.expanded().float()
        able = responsible.bool() & priors.valid
        near, best = BestMatch(able, start=-1.0), BestMatch(able, start=-1.0)
        claimed = torch.zeros_like(near.index)
        for part in gt.chunks(boxes.shape[1], matrices=3):
            overlaps = self.iou_calculator(gt.boxes[:, part].float(), boxes)  # (B, g, P)
            overlaps = overlaps.masked_fill(~gt.mask[:, part, None], -1)
            near.update(overlaps, part)
            overlaps = overlaps.masked_fill(~able[:, None], -1)
            best.update(overlaps, part)
            top, first = overlaps.max(2, keepdim=True)
            hit = overlaps == top
            if not self.gt_max_assign_all:
                hit = torch.zeros_like(hit).scatter(2, first, True)
            hit &= (top > self.min_pos_iou) & able[:, None] & gt.mask[:, part, None]
            place = torch.arange(hit.shape[1], device=hit.device, dtype=torch.int32) + (part.start or 0) + 1
            claimed = torch.maximum(claimed, (hit * place[:, None]).amax(1))  # the last of several boxes
        if isinstance(self.neg_iou_thr, (tuple, list)):
            negative = (near.score > self.neg_iou_thr[0]) & (near.score <= self.neg_iou_thr[1])
        else:
            negative = (near.score >= 0) & (near.score <= self.neg_iou_thr)
        inds = torch.where(negative, 0, -1)
        inds = torch.where((best.score > self.pos_iou_thr) & able, best.gt_inds, inds)
        inds = torch.where(claimed > 0, claimed.long(), inds)
        inds = torch.where(gt.mask.any(1, keepdim=True), inds, 0)  # a picture without objects is all background
        return Assignment(inds.masked_fill(~priors.valid, -1), best.score)

    @by_batch
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs: Any,
    ) -> AssignResult:
        """As that of the base class; ``pred_instances`` have ``responsible_flags (P,)`` beside the priors."""
        responsible = pred_instances.responsible_flags[None]
        if not len(pred_instances):
            responsible = responsible.new_zeros(1, 1)  # as the one prior that stands for none
        return super().assign(pred_instances, gt_instances, gt_instances_ignore, responsible=responsible, **kwargs)
