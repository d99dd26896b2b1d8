"""DropBlock (arXiv:1810.12890)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.registry import MODELS


@MODELS.register_module()
class DropBlock(nn.Module):
    """Sets squares of ``block_size`` to zero while training, and scales up the rest.

    Args:
        drop_prob: Part of the positions that is dropped once ``warmup_iters`` calls have passed.
    """

    def __init__(self, drop_prob: float, block_size: int, warmup_iters: int = 2000, **kwargs: Any) -> None:
        super().__init__()
        if block_size < 1 or block_size % 2 != 1:
            raise UserValueError(f'block_size must be odd and positive, got {block_size}')
        if not 0 < drop_prob <= 1:
            raise UserValueError(f'drop_prob must be in (0, 1], got {drop_prob}')
        if warmup_iters < 0:
            raise UserValueError(f'warmup_iters must not be negative, got {warmup_iters}')
        self.drop_prob = drop_prob
        self.block_size = block_size
        self.warmup_iters = warmup_iters
        self.iter_cnt = 0

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)``, unchanged in evaluation."""
        if not self.training:
            return x
        self.iter_cnt += 1
        size = self.block_size
        batch, channels, height, width = x.shape
        gamma = self._compute_gamma((height, width))
        centres = torch.bernoulli(x.new_full((batch, channels, height - size + 1, width - size + 1), gamma))
        centres = F.pad(centres, [size // 2] * 4)
        kept = 1 - F.max_pool2d(centres, size, stride=1, padding=size // 2)
        return x * kept * (kept.numel() / (1e-6 + kept.sum()))

    def _compute_gamma(self, feat_size: tuple[int, int]) -> float:
        """Probability of a block's centre (Eq. 1), growing linearly at first."""
        height, width = feat_size
        size = self.block_size
        valid = (height - size + 1) * (width - size + 1)
        gamma = self.drop_prob * height * width / (size**2 * valid)
        return gamma * (min(self.iter_cnt / self.warmup_iters, 1.0) if self.warmup_iters else 1.0)

    def extra_repr(self) -> str:
        return f'drop_prob={self.drop_prob}, block_size={self.block_size}, warmup_iters={self.warmup_iters}'
