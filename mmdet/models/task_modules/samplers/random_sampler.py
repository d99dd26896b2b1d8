from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import TASK_UTILS

from .base_sampler import BaseSampler


@TASK_UTILS.register_module()
class RandomSampler(BaseSampler):
    """Positives and negatives at random (Faster R-CNN, Sec. 3.1.3)."""

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        """``num`` different elements of ``gallery``."""
        gallery = torch.as_tensor(gallery)
        if len(gallery) < num:
            raise UserValueError(f'cannot draw {num} different elements of {len(gallery)}')
        return gallery[torch.randperm(len(gallery), device=gallery.device)[:num]]
