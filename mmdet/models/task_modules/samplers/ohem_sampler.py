from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import Assignment
from mmdet.models.core.rois import with_image
from mmdet.registry import TASK_UTILS

from .base_sampler import BaseSampler


@TASK_UTILS.register_module()
class OHEMSampler(BaseSampler):
    """The positives and negatives of the highest loss (OHEM, arXiv:1604.03540, Sec. 4).

    Args:
        context: The RoI head whose loss decides; of a cascade, its current stage.
        loss_key: Which of its losses.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        context,
        neg_pos_ub: int = -1,
        add_gt_as_proposals: bool = True,
        loss_key: str = 'loss_cls',
        **kwargs,
    ) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)
        self.context, self.loss_key = context, loss_key

    def draw(self, assignment: Assignment, **kwargs):
        return super().draw(assignment, losses=self._losses(assignment, **kwargs), **kwargs)

    def pos_keys(self, assignment: Assignment, limit: int, losses: Tensor, **kwargs) -> Tensor:
        return losses

    def neg_keys(self, assignment: Assignment, room: Tensor, losses: Tensor, **kwargs) -> Tensor:
        return losses

    @torch.no_grad()
    def _losses(self, assignment: Assignment, boxes: Tensor, gt, feats: tuple[Tensor, ...], **kwargs) -> Tensor:
        """Loss of every candidate, ``(B, P)``."""
        rois = with_image(boxes).flatten(0, 1)
        stage = getattr(self.context, 'current_stage', None)
        if stage is None:
            head, outs = self.context.bbox_head, self.context._bbox_forward(feats, rois)
        else:
            head, outs = self.context.bbox_head[stage], self.context._bbox_forward(stage, feats, rois)
        labels = torch.where(assignment.pos, gt.gather(assignment.gt_inds)[1], head.num_classes).flatten()
        losses = head.loss(
            cls_score=outs['cls_score'],
            bbox_pred=None,
            rois=rois,
            labels=labels,
            label_weights=outs['cls_score'].new_ones(len(labels)),
            bbox_targets=None,
            bbox_weights=None,
            reduction_override='none',
        )
        return losses[self.loss_key].view_as(assignment.gt_inds).clamp(min=0)
