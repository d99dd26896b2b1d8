"""Several queries for each ground truth, at the least total cost (DDQ, arXiv:2303.12776, Sec. 3.3).

Letters: N problems (decoder layers times images), Q queries, G padded ground truths, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Assignment, AssignResult, QueryPairs, by_batch, labels_of, solve
from mmdet.registry import TASK_UTILS
from mmdet.utils import ConfigType

from .dynamic_assigners import TaskAlignedAssigner
from .match_cost import pairs_of_image, total_cost


@TASK_UTILS.register_module()
class TopkHungarianAssigner(TaskAlignedAssigner):
    """One-to-many matching: every ground truth gets ``topk`` queries, or fewer where there are too few for all.

    Args:
        cls_cost, reg_cost, iou_cost: Configs of the costs.
    """

    def __init__(
        self,
        *args: Any,
        cls_cost: ConfigType = dict(type='FocalLossCost', weight=2.0),
        reg_cost: ConfigType = dict(type='BBoxL1Cost', weight=5.0),
        iou_cost: ConfigType = dict(type='IoUCost', iou_mode='giou', weight=2.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.cls_cost = TASK_UTILS.build(cls_cost)
        self.reg_cost = TASK_UTILS.build(reg_cost)
        self.iou_cost = TASK_UTILS.build(iou_cost)

    @torch.no_grad()
    def assign_groups(self, groups: Sequence[QueryPairs], alpha: float = 1, beta: float = 6) -> list[Assignment]:
        """Match several groups of problems with one transfer each way.

        Returns:
            Assignments with overlaps as their quality, and ``assign_metrics (N, Q)`` among their extras.
        """
        each = self.cls_cost, self.reg_cost, self.iou_cost
        costs = [total_cost(each, pairs) for pairs in groups]
        counts = [pairs.gt.counts for pairs in groups]
        copies = [
            [min(self.topk, cost.shape[1] // max(count, 1)) for count in group] for cost, group in zip(costs, counts)
        ]
        return [self._measured(*pair, alpha, beta) for pair in zip(solve(costs, counts, copies), groups)]

    def _measured(self, inds: Tensor, pairs: QueryPairs, alpha: float, beta: float) -> Assignment:
        scores, boxes = self._checked(pairs.scores, pairs.bboxes)
        overlap, labels = self._matched(inds, pairs.gt, boxes), pairs.gt.gather(inds)[1]
        metric = scores.gather(2, labels[..., None])[..., 0] ** alpha * overlap**beta
        return Assignment(inds, overlap, dict(assign_metrics=torch.where(inds > 0, metric, 0.0)))

    @by_batch
    def assign(  # type: ignore[override]
        self,
        pred_scores: Tensor,
        decode_bboxes: Tensor,
        gt_bboxes: Tensor,
        gt_labels: Tensor,
        img_meta: dict,
        alpha: float = 1,
        beta: float = 6,
        **kwargs: Any,
    ) -> AssignResult:
        """Match one image.

        Args:
            pred_scores: ``(Q, C)`` probabilities.
            decode_bboxes: ``(Q, 4)`` xyxy in pixels.
            gt_bboxes, gt_labels: ``(g, 4)`` and ``(g,)``.
            img_meta: Has ``img_shape``.
            alpha, beta: Exponents of the score and of the overlap in the metric (TOOD, Eq. 1).

        Returns:
            A result with ``assign_metrics (Q,)``.
        """
        predicted = InstanceData(scores=pred_scores.detach(), bboxes=decode_bboxes.detach())
        pairs = pairs_of_image(predicted, InstanceData(bboxes=gt_bboxes, labels=gt_labels), img_meta)
        (found,) = self.assign_groups([pairs], alpha, beta)
        result = AssignResult(len(gt_labels), found.gt_inds[0], found.quality[0], labels_of(found, pairs.gt)[0])
        result.assign_metrics = found.extras['assign_metrics'][0]
        return result
