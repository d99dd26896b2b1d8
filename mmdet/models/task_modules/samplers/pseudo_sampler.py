from __future__ import annotations

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Assignment, AssignResult, PaddedGT, SamplingResult, by_batch
from mmdet.registry import TASK_UTILS

from .base_sampler import BaseSampler, Drawn


@TASK_UTILS.register_module()
class PseudoSampler(BaseSampler):
    """Takes every positive and every negative."""

    avg_factor_with_neg = False

    def __init__(self, **kwargs) -> None:
        super().__init__(num=-1, pos_fraction=1.0, add_gt_as_proposals=False)

    def draw(self, assignment: Assignment, **kwargs) -> Drawn:
        inds = assignment.gt_inds
        index = torch.arange(inds.shape[1], device=inds.device).expand_as(inds)
        return index, inds > 0, index, inds == 0

    def masks(self, assignment: Assignment, gt: PaddedGT | None = None) -> tuple[Tensor, Tensor]:
        return assignment.gt_inds > 0, assignment.gt_inds == 0

    @by_batch
    def sample(
        self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData, *args, **kwargs
    ) -> SamplingResult:
        inds, priors = assign_result.gt_inds, pred_instances.priors
        flags = torch.zeros(len(priors), dtype=torch.uint8, device=priors.device)
        pos, neg = (inds > 0).nonzero().flatten(), (inds == 0).nonzero().flatten()
        return SamplingResult(pos, neg, priors, gt_instances.bboxes, assign_result, flags, avg_factor_with_neg=False)
