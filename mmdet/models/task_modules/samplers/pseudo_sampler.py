from __future__ import annotations

from torch import Tensor

from mmdet.models.core import Assignment
from mmdet.registry import TASK_UTILS

from .base_sampler import BaseSampler


@TASK_UTILS.register_module()
class PseudoSampler(BaseSampler):
    """Takes every positive and every negative."""

    avg_factor_with_neg = False

    def __init__(self, **kwargs) -> None:
        super().__init__(num=-1, pos_fraction=1.0, add_gt_as_proposals=False)

    def masks(self, assignment: Assignment, **kwargs) -> tuple[Tensor, Tensor]:
        return assignment.pos, assignment.neg

    def _sample_image(self, assign_result, priors: Tensor, **kwargs) -> tuple[Tensor, Tensor]:
        inds = assign_result.gt_inds
        return (inds > 0).nonzero().flatten(), (inds == 0).nonzero().flatten()
