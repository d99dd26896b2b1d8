"""Positives and negatives by thresholds on the overlap (Faster R-CNN, Sec. 3.1.2).

Letters: B images, G padded ground truths, P priors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import Assignment, AssignResult, BestMatch, PaddedGT, Priors
from mmdet.ops.compiled import has_triton
from mmdet.ops.match_boxes import match_boxes
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox.bbox_overlaps import BboxOverlaps2D

from .base_assigner import BaseAssigner, in_ignored_region


@TASK_UTILS.register_module()
class MaxIoUAssigner(BaseAssigner):
    """Each prior gets the ground truth that it overlaps most.

    Args:
        pos_iou_thr: Overlap from which a prior is positive.
        neg_iou_thr: Overlap below which it is background, or the range (low, high) of background.
        min_pos_iou: Overlap that the best prior of a ground truth needs to be positive by ``match_low_quality``.
        gt_max_assign_all: Whether all priors that share the best overlap of a ground truth count as its best.
        ignore_iof_thr: Priors covered by ignored regions by more than this fraction are ignored; off if not positive.
        ignore_wrt_candidates: Whether that fraction is of the prior's area, else of the region's.
        match_low_quality: Whether the best prior of each ground truth is positive whatever its overlap, case (i) of
            Sec. 3.1.2. A ground truth that overlaps no prior claims none.
        gpu_assign_thr: Taken for compatibility: memory is bounded by working through the ground truths in parts.
        perm_repeat_gt_cfg: Taken for compatibility; 1 / 0 noise for repeated ground truths is not needed here.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float | tuple[float, float],
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
        match_low_quality: bool = True,
        gpu_assign_thr: float = -1,
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
        perm_repeat_gt_cfg: dict | None = None,
    ) -> None:
        self.pos_iou_thr, self.neg_iou_thr, self.min_pos_iou = pos_iou_thr, neg_iou_thr, min_pos_iou
        self.gt_max_assign_all, self.match_low_quality = gt_max_assign_all, match_low_quality
        self.ignore_iof_thr, self.ignore_wrt_candidates = ignore_iof_thr, ignore_wrt_candidates
        self.gpu_assign_thr, self.perm_repeat_gt_cfg = gpu_assign_thr, perm_repeat_gt_cfg
        self.iou_calculator = TASK_UTILS.build(iou_calculator)

    def assign_batch(self, priors: Priors, gt: PaddedGT, *, scores=None, bboxes=None, **kwargs) -> Assignment:
        boxes = priors.boxes.expand(len(gt.mask), -1, -1).float()
        usable = priors.valid
        if gt.ignored is not None:
            by_region = not self.ignore_wrt_candidates
            usable = usable & ~in_ignored_region(boxes, gt, self.ignore_iof_thr, self.iou_calculator, by_region)
        match, claimed = self._matched(priors, boxes, usable, gt, **kwargs)
        inds = self.by_threshold(match)
        inds = torch.where(claimed > 0, claimed, inds) if self.match_low_quality else inds
        inds = torch.where(gt.mask.any(1, keepdim=True), inds, 0)  # a picture without objects is all background
        return Assignment(inds.masked_fill(~usable, -1), match.score)

    def _matched(
        self, priors: Priors, boxes: Tensor, usable: Tensor, gt: PaddedGT, **kwargs
    ) -> tuple[BestMatch, Tensor]:
        """The best ground truth of each prior, and the last one, counted from 1, that claims it, ``(B, P)``."""
        match = BestMatch(usable, start=-1.0)
        if self._has_kernel(boxes):
            data = priors.boxes.float(), usable, gt.boxes.float(), gt.mask
            match.score, match.index, claimed = match_boxes(*data, self.min_pos_iou, self.match_low_quality)
            return match, claimed
        unusable = ~usable[:, None]
        claimed = torch.zeros_like(match.index)
        for part in gt.chunks(boxes.shape[1], matrices=2):
            mask = gt.mask[:, part]
            overlaps = self.overlaps(gt.boxes[:, part].float(), boxes, **kwargs).float()  # (B, g, P)
            if min(gt.counts) < part.stop:
                overlaps = overlaps.masked_fill(~mask[..., None], 0)
            match.update(overlaps, part)
            if self.match_low_quality:
                for place, hit in enumerate(self.claims(overlaps, unusable, mask).unbind(1), part.start + 1):
                    claimed.masked_fill_(hit, place)  # of several ground truths that claim a prior the last wins
        return match, claimed

    def _has_kernel(self, boxes: Tensor) -> bool:
        """Whether a kernel matches as the methods would: on a GPU, unless a subclass has its own rules."""
        plain = type(self.iou_calculator) is BboxOverlaps2D and self.iou_calculator.dtype is None
        own = type(self).overlaps is MaxIoUAssigner.overlaps and type(self).claims is MaxIoUAssigner.claims
        return boxes.is_cuda and plain and own and self.gt_max_assign_all and has_triton()

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """The assignment of one image by given overlaps ``(n, P)`` of its ground truths."""
        num_gts, num_priors = overlaps.shape
        usable = overlaps.new_ones(1, num_priors, dtype=torch.bool)
        inds = torch.zeros(1, num_priors, dtype=torch.long, device=overlaps.device)
        best = overlaps.new_zeros(1, num_priors)
        if overlaps.numel():
            match = BestMatch(usable, start=-1.0)
            match.update(overlaps[None], slice(0, num_gts))
            inds, best = self.by_threshold(match), match.score
            if self.match_low_quality:
                mask = usable.new_ones(1, num_gts)
                for place, hit in enumerate(self.claims(overlaps[None], ~usable[:, None], mask).unbind(1), 1):
                    inds = inds.masked_fill(hit, place)
        labels = torch.full_like(inds[0], -1)
        if num_gts:
            labels = torch.where(inds[0] > 0, gt_labels[(inds[0] - 1).clamp(min=0)], labels)
        return AssignResult(num_gts, inds[0], best[0], labels)

    def overlaps(self, gt_boxes: Tensor, boxes: Tensor, **kwargs) -> Tensor:
        """``(B, g, P)`` of ground truths ``(B, g, 4)`` with priors ``(B, P, 4)``."""
        return self.iou_calculator(gt_boxes, boxes)

    def by_threshold(self, match: BestMatch) -> Tensor:
        """``(B, P)`` ground truth indices by the overlap alone."""
        if isinstance(self.neg_iou_thr, (tuple, list)):
            low, high = self.neg_iou_thr
            negative = (match.score >= low) & (match.score < high)
        else:
            negative = match.score < self.neg_iou_thr
        inds = torch.where(negative, 0, -1)
        return torch.where(match.score >= self.pos_iou_thr, match.index.long() + 1, inds)

    def claims(self, overlaps: Tensor, unusable: Tensor, mask: Tensor) -> Tensor:
        """``(B, g, P)`` bool: whether a prior is the best one of a ground truth."""
        seen = overlaps.masked_fill(unusable, -1)
        if self.gt_max_assign_all:
            top = seen.amax(2, keepdim=True)
            lowest = torch.where((top >= self.min_pos_iou) & (top > 0) & mask[..., None], top, torch.inf)
            return seen == lowest
        top, arg = seen.max(2, keepdim=True)
        claimed = (top >= self.min_pos_iou) & (top > 0) & mask[..., None]
        return torch.zeros_like(seen, dtype=torch.bool).scatter(2, arg, claimed)
