from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet.models.core import Assignment, AssignResult, PaddedGT, by_batch, stable_topk
from mmdet.models.core.rois import with_image
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor

from .base_sampler import BaseSampler, Drawn


class LooksAtOutputs(BaseSampler):
    """A sampler that asks a RoI head what it makes of the candidates.

    Args:
        context: The RoI head; of a cascade, its current stage.
    """

    context: Any

    @property
    def _head(self):
        stage = getattr(self.context, 'current_stage', None)
        return self.context.bbox_head if stage is None else self.context.bbox_head[stage]

    def _outputs(self, boxes: Tensor, feats: Sequence[Tensor]) -> tuple[Tensor, dict]:
        """RoIs ``(B * P, 5)`` of candidates ``(B, P, 4)``, and what the RoI head gives for them."""
        rois, stage = with_image(boxes).flatten(0, 1), getattr(self.context, 'current_stage', None)
        return rois, self.context._bbox_forward(*(() if stage is None else (stage,)), feats, rois)


@TASK_UTILS.register_module()
class OHEMSampler(LooksAtOutputs):
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

    def draw(self, assignment: Assignment, **kwargs) -> Drawn:
        return super().draw(assignment, losses=self._candidate_losses(assignment, **kwargs))

    def pos_keys(self, assignment: Assignment, limit: int, losses: Tensor | None = None, **kwargs) -> Tensor:
        return self._candidate_losses(assignment, **kwargs) if losses is None else losses

    def neg_keys(self, assignment: Assignment, room: Tensor, losses: Tensor | None = None, **kwargs) -> Tensor:
        return self._candidate_losses(assignment, **kwargs) if losses is None else losses

    def _candidate_losses(self, assignment: Assignment, boxes: Tensor, gt: PaddedGT, feats: Sequence[Tensor]) -> Tensor:
        labels = torch.where(assignment.pos, gt.gather(assignment.gt_inds)[1], self._head.num_classes)
        return self._losses(boxes, labels, feats)

    @by_batch
    def _sample_pos(self, assign_result: AssignResult, num_expected: int, bboxes=None, feats=None, **kwargs) -> Tensor:
        inds = (assign_result.gt_inds > 0).nonzero().flatten()
        labels = assign_result.labels[inds]
        return self.hard_mining(inds, num_expected, bboxes[inds], labels, feats)

    @by_batch
    def _sample_neg(self, assign_result: AssignResult, num_expected: int, bboxes=None, feats=None, **kwargs) -> Tensor:
        inds = (assign_result.gt_inds == 0).nonzero().flatten()
        labels = assign_result.gt_inds.new_full((len(inds),), self._head.num_classes)
        return self.hard_mining(inds, num_expected, bboxes[inds], labels, feats)

    def hard_mining(
        self, inds: Tensor, num_expected: int, bboxes: Tensor, labels: Tensor, feats: Sequence[Tensor]
    ) -> Tensor:
        """At most ``num_expected`` of ``inds``, those of the highest loss; boxes and labels are theirs."""
        if len(inds) <= num_expected:
            return inds
        losses = self._losses(get_box_tensor(bboxes)[None], labels[None], feats)[0]
        return inds[stable_topk(losses, num_expected)[1]]

    @torch.no_grad()
    def _losses(self, boxes: Tensor, labels: Tensor, feats: Sequence[Tensor]) -> Tensor:
        """``(B, P)`` loss of each candidate for its label."""
        rois, outs = self._outputs(boxes, feats)
        losses = self._head.loss(
            cls_score=outs['cls_score'],
            bbox_pred=None,
            rois=rois,
            labels=labels.flatten(),
            label_weights=outs['cls_score'].new_ones(labels.numel()),
            bbox_targets=None,
            bbox_weights=None,
            reduction_override='none',
        )
        return losses[self.loss_key].view_as(labels).clamp(min=0)
