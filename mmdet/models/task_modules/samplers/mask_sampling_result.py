from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import AssignResult, SamplingResult


class MaskSamplingResult(SamplingResult):
    """Positives and negatives among the masks of one image.

    Attributes:
        pos_masks, neg_masks: The predicted masks.
        pos_gt_masks: ``(n, H, W)`` the ground truth of each positive.
    """

    def __init__(
        self,
        pos_inds: Tensor,
        neg_inds: Tensor,
        masks: Tensor,
        gt_masks: Tensor,
        assign_result: AssignResult,
        gt_flags: Tensor,
        avg_factor_with_neg: bool = True,
    ) -> None:
        boxes, gt_boxes = masks.new_zeros(len(masks), 4), masks.new_zeros(len(gt_masks), 4)  # which nobody asks for
        super().__init__(pos_inds, neg_inds, boxes, gt_boxes, assign_result, gt_flags, avg_factor_with_neg)
        self.pos_masks, self.neg_masks = masks[pos_inds], masks[neg_inds]
        self.pos_gt_masks = gt_masks[self.pos_assigned_gt_inds.long()]

    @property
    def masks(self) -> Tensor:
        """The predicted masks, positives first."""
        return torch.cat([self.pos_masks, self.neg_masks])

    @property
    def info(self) -> dict:
        """Indices, masks and ground truths of what was drawn."""
        matches = 'pos_is_gt num_gts pos_assigned_gt_inds num_pos num_neg avg_factor'
        return {name: getattr(self, name) for name in f'pos_inds neg_inds pos_masks neg_masks {matches}'.split()}
