from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, by_batch, overridden
from mmdet.registry import TASK_UTILS

from .base_sampler import BaseSampler


@TASK_UTILS.register_module()
class RandomSampler(BaseSampler):
    """Positives and negatives at random (Faster R-CNN, Sec. 3.1.3).

    Research code may override ``_sample_pos`` and ``_sample_neg``; they are then called for each image.
    """

    def __init__(
        self, num: int, pos_fraction: float, neg_pos_ub: int = -1, add_gt_as_proposals: bool = True, **kwargs
    ) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        """``num`` different elements of ``gallery``."""
        gallery = torch.as_tensor(gallery)
        if len(gallery) < num:
            raise UserValueError(f'cannot draw {num} different elements of {len(gallery)}')
        return gallery[torch.randperm(len(gallery), device=gallery.device)[:num]]

    @by_batch
    def _sample_pos(self, assign_result, num_expected: int, **kwargs) -> Tensor:
        inds = (assign_result.gt_inds > 0).nonzero().flatten()
        return inds if len(inds) <= num_expected else self.random_choice(inds, num_expected)

    @by_batch
    def _sample_neg(self, assign_result, num_expected: int, **kwargs) -> Tensor:
        inds = (assign_result.gt_inds == 0).nonzero().flatten()
        return inds if len(inds) <= num_expected else self.random_choice(inds, num_expected)

    def draw(self, assignment: Assignment, **kwargs):
        if not (overridden(self, '_sample_pos') or overridden(self, '_sample_neg')):
            return super().draw(assignment, **kwargs)
        from mmdet.models.core import pad_batch
        from mmdet.models.task_modules.assigners.assign_result import AssignResult

        drawn = []
        for b, gt_inds in enumerate(assignment.gt_inds):
            quality = None if assignment.quality is None else assignment.quality[b]
            image = AssignResult(int(gt_inds.max().clamp(min=0)), gt_inds, quality, gt_inds - 1)
            pos = self._sample_pos(image, int(self.num * self.pos_fraction), **kwargs).unique()
            room = self.num - len(pos)
            if self.neg_pos_ub >= 0:
                room = min(room, int(self.neg_pos_ub * max(1, len(pos))))
            drawn.append((pos, self._sample_neg(image, room, **kwargs).unique()))
        pos, neg = zip(*drawn)
        return (
            pad_batch(pos),
            pad_batch([torch.ones_like(p, dtype=torch.bool) for p in pos]),
            pad_batch(neg),
            pad_batch([torch.ones_like(n, dtype=torch.bool) for n in neg]),
        )
