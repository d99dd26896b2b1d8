"""One query for each ground truth, at the least total cost (DETR, arXiv:2005.12872, Eq. 1).

Letters: N problems (decoder layers times images), Q queries, G padded ground truths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, AssignResult, PaddedGT, QueryPairs, by_batch, labels_of, solve
from mmdet.registry import TASK_UTILS
from mmdet.utils import ConfigType

from .base_assigner import BaseAssigner
from .match_cost import pairs_of_image, total_cost


@TASK_UTILS.register_module()
class HungarianAssigner(BaseAssigner):
    """Minimises the sum of ``match_costs`` over one-to-one matchings.

    Args:
        match_costs: Configs of the costs.
    """

    def __init__(self, match_costs: Sequence[ConfigType] | ConfigType) -> None:
        costs = [match_costs] if isinstance(match_costs, dict) else list(match_costs)
        if not costs:
            raise UserValueError('match_costs of HungarianAssigner must not be empty')
        self.match_costs = [TASK_UTILS.build(cost) for cost in costs]

    @property
    def one_to_one(self) -> bool:
        """Whether the matching is this class' own, which leaves a ground truth out only where queries are too few."""
        own, names = type(self), ('assign', 'assign_batch', 'assign_groups')
        return all(getattr(own, name) is getattr(HungarianAssigner, name) for name in names)

    def cost(self, pairs: QueryPairs) -> Tensor:
        """``(N, Q, G)`` total costs."""
        return total_cost(self.match_costs, pairs)

    @torch.no_grad()
    def assign_groups(self, groups: Iterable[QueryPairs]) -> list[Assignment]:
        """Match several groups of problems, whose numbers of queries may differ, with one transfer each way."""
        costs, counts, usable = [], [], []
        for group in groups:  # which may come one by one, so that what the costs compare need not be in memory at once
            cost = self.cost(group)
            costs.append(cost if group.usable is None else cost.masked_fill(~group.usable[..., None], torch.inf))
            counts.append(group.gt.counts)
            usable.append(group.usable)
        found = solve(costs, counts)
        return [Assignment(i if mask is None else i.masked_fill(~mask, -1)) for i, mask in zip(found, usable)]

    def assign_batch(
        self,
        priors: Any,
        gt: PaddedGT,
        *,
        scores: Tensor | None = None,
        bboxes: Tensor | None = None,
        **kwargs: Any,
    ) -> Assignment:
        """Match a batch.

        Args:
            priors: None.
            kwargs: The other attributes of :class:`QueryPairs`.
        """
        return self.assign_groups([QueryPairs(gt, scores, bboxes, **kwargs)])[0]

    @by_batch
    def assign(  # type: ignore[override]  # the third argument is another one in MMDetection, too
        self, pred_instances: InstanceData, gt_instances: InstanceData, img_meta: dict | None = None, **kwargs: Any
    ) -> AssignResult:
        """Match one image.

        Args:
            pred_instances: What the costs compare: ``scores``, ``bboxes``, ``masks``.
            gt_instances: ``labels``, ``bboxes``, ``masks``.
            img_meta: Has ``img_shape``.
        """
        pairs = pairs_of_image(pred_instances, gt_instances, img_meta)
        (found,) = self.assign_groups([pairs])
        return AssignResult(len(gt_instances), found.gt_inds[0], None, labels_of(found, pairs.gt)[0])
