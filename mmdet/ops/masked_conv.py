from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.registry import MODELS


def masked_conv2d(
    features: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: int | tuple[int, int] = 0,
    stride: int | tuple[int, int] = 1,
) -> Tensor:
    """Convolution whose result is zero where ``mask``, of shape (B, H', W'), is not positive."""
    return F.conv2d(features, weight, bias, stride=stride, padding=padding) * (mask > 0)[:, None]


@MODELS.register_module('MaskedConv')
class MaskedConv2d(nn.Conv2d):
    """A convolution that takes a mask in inference (guided anchoring, arXiv:1901.03278, Sec. 3.4)."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Zero where ``mask`` ``(B, H, W)`` is not positive."""
        if mask is None:
            return super().forward(input)
        return super().forward(input) * (mask > 0)[:, None]


MaskedConv = MaskedConv2d
