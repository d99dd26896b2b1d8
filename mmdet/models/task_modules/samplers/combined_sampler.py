from __future__ import annotations

from mmdet.registry import TASK_UTILS

from .base_sampler import BaseSampler


@TASK_UTILS.register_module()
class CombinedSampler(BaseSampler):
    """Positives of one sampler, negatives of another."""

    def __init__(self, pos_sampler: dict, neg_sampler: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.pos_sampler = TASK_UTILS.build(pos_sampler, default_args=kwargs)
        self.neg_sampler = TASK_UTILS.build(neg_sampler, default_args=kwargs)
