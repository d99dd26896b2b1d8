from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, rank_within
from mmdet.registry import TASK_UTILS

from .random_sampler import RandomSampler


@TASK_UTILS.register_module()
class IoUBalancedNegSampler(RandomSampler):
    """Negatives spread evenly over their overlap (Libra R-CNN, arXiv:1904.02701, Sec. 3.1).

    Args:
        floor_thr: Negatives of a lower overlap form the floor; below 0 there is none, at 0 it is those without overlap.
        floor_fraction: Share of the negatives drawn from the floor.
        num_bins: Intervals of overlap, from which the others are drawn in equal numbers.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        floor_thr: float = -1,
        floor_fraction: float = 0,
        num_bins: int = 3,
        **kwargs,
    ) -> None:
        super().__init__(num, pos_fraction, **kwargs)
        if floor_thr < 0 and floor_fraction != 0:
            raise UserValueError(f'floor_fraction={floor_fraction} needs a floor_thr of at least 0')
        if not 0 <= floor_fraction <= 1:
            raise UserValueError(f'floor_fraction must be in [0, 1], not {floor_fraction}')
        if num_bins < 1:
            raise UserValueError(f'num_bins must be at least 1, not {num_bins}')
        self.floor_thr, self.floor_fraction, self.num_bins = floor_thr, floor_fraction, num_bins

    def neg_keys(self, assignment: Assignment, room: Tensor, **kwargs) -> Tensor:
        overlaps, negative = assignment.quality.float(), assignment.neg
        floor = negative & ((overlaps == 0) if self.floor_thr == 0 else (overlaps < self.floor_thr))
        upper = negative & ~floor
        noise = torch.rand(overlaps.shape, device=overlaps.device)
        if self.num_bins < 2:
            preference = noise
        else:
            low = max(self.floor_thr, 0)
            width = (overlaps.amax(1, keepdim=True) - low).clamp(min=1e-12) / self.num_bins
            bins = ((overlaps - low) / width).floor().long()
            inside = upper & (bins >= 0) & (bins < self.num_bins)
            groups = torch.where(inside, bins, self.num_bins)
            share = room // self.num_bins
            preference = noise + (inside & (rank_within(groups, noise, self.num_bins + 1) < share))
        # The chosen of the upper part first, then the floor, then whatever is left.
        quota = (room * (1 - self.floor_fraction)).long()
        rank = torch.where(upper, preference, -1.0).argsort(dim=1, descending=True, stable=True).argsort(1)
        chosen = upper & (rank < quota)
        return noise + torch.where(chosen, 2.0, torch.where(floor, 1.0, 0.0))
