from __future__ import annotations

import math

import torch
from torch import Tensor

from mmdet.models.layers.mlp import MLP
from mmdet.models.layers.patch import AdaptivePadding, PatchEmbed, PatchMerging, nchw_to_nlc, nlc_to_nchw

from .attention import ConditionalAttention

__all__ = [
    'MLP',
    'AdaptivePadding',
    'ConditionalAttention',
    'PatchEmbed',
    'PatchMerging',
    'coordinate_to_encoding',
    'inverse_sigmoid',
    'nchw_to_nlc',
    'nlc_to_nchw',
    'wave_features',
]


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The logit of x, which is clamped to [0, 1]; both x and 1 - x count as at least ``eps``."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


def wave_features(values: Tensor, num_feats: int, temperature: float = 10000) -> Tensor:
    """``(..., num_feats)``: sine and cosine in turn of waves whose length grows geometrically (arXiv:1706.03762,
    Sec. 3.5)."""
    step = torch.arange(num_feats, dtype=torch.float32, device=values.device)
    length = temperature ** (2 * (step // 2) / num_feats)
    phase = values.float()[..., None] / length
    return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], -1).flatten(-2)


def coordinate_to_encoding(
    coord_tensor: Tensor, num_feats: int = 128, temperature: int = 10000, scale: float = 2 * math.pi
) -> Tensor:
    """Waves of points ``(..., 2)`` or of boxes cx, cy, w, h ``(..., 4)`` in parts of the image, as
    :class:`SinePositionalEncoding` has them: ``num_feats`` channels for y, then x, and then for w and h."""
    order = torch.cat([coord_tensor[..., :2].flip(-1), coord_tensor[..., 2:]], -1)
    return wave_features(order * scale, num_feats, temperature).flatten(-2)
