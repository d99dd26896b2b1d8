from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import Assignment, rank_within
from mmdet.registry import TASK_UTILS

from .random_sampler import RandomSampler


@TASK_UTILS.register_module()
class InstanceBalancedPosSampler(RandomSampler):
    """About as many positives of each ground truth (Libra R-CNN, arXiv:1904.02701, Sec. 3.1)."""

    def pos_keys(self, assignment: Assignment, limit: int, num_gts: int | None = None, **kwargs) -> Tensor:
        inds = assignment.gt_inds.clamp(min=0)
        gt = kwargs.get('gt')
        count = num_gts or (gt.mask.shape[1] if gt is not None else int(inds.max())) + 1
        seen = torch.zeros(len(inds), count, dtype=torch.bool, device=inds.device).scatter(1, inds, True)[:, 1:]
        share = (limit / seen.sum(1, keepdim=True).clamp(min=1)).round() + 1
        noise = torch.rand(inds.shape, device=inds.device)
        return noise + (rank_within(inds, noise, count) < share)  # those within the share first, then the rest
