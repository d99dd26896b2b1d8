from __future__ import annotations

from torch import Tensor

from mmdet.models.layers.mlp import MLP
from mmdet.models.layers.patch import AdaptivePadding, PatchEmbed, PatchMerging, nchw_to_nlc, nlc_to_nchw

__all__ = ['MLP', 'AdaptivePadding', 'PatchEmbed', 'PatchMerging', 'inverse_sigmoid', 'nchw_to_nlc', 'nlc_to_nchw']


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The logit of x, which is clamped to [0, 1]; both x and 1 - x count as at least ``eps``."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()
