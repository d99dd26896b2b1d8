"""Gaussians on heat maps under the names of 3.x; see :mod:`mmdet.models.core.heatmap`."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import gather_rows
from mmdet.models.core.heatmap import gaussian_radius, gaussians_around
from mmdet.models.core.heatmap import highest_cells as get_topk_from_heatmap
from mmdet.models.core.heatmap import local_maxima as get_local_maximum

__all__ = [
    'gather_feat',
    'gaussian2D',
    'gaussian_radius',
    'gen_gaussian_target',
    'get_local_maximum',
    'get_topk_from_heatmap',
    'transpose_and_gather_feat',
]


def gaussian2D(
    radius: int, sigma: float = 1, dtype: torch.dtype = torch.float32, device: torch.device | str = 'cpu'
) -> Tensor:
    """A Gaussian in the middle of a square of ``2 * radius + 1`` cells: 1 at its peak, 0 where it is lost beside 1."""
    offset = torch.arange(-radius, radius + 1, dtype=dtype, device=device)
    value = (-(offset.square() + offset.square()[:, None]) / (2 * sigma * sigma)).exp()
    return value.masked_fill(value < torch.finfo(dtype).eps, 0)


def gen_gaussian_target(
    heatmap: Tensor, center: tuple[int, int] | tuple[Tensor, Tensor], radius: int | Tensor, k: float = 1
) -> Tensor:
    """Raise a heat map (H, W), in place, to the Gaussian of an object, or to those of G objects at once.

    Args:
        center: x and y in cells, as integers or as tensors (G,).
        radius: The Gaussian ends this many cells from its center, which is three times its sigma; an integer or (G,).
        k: Height of the peaks.
    """
    height, width = heatmap.shape
    x, y, radius = (torch.as_tensor(value, device=heatmap.device).reshape(-1) for value in (*center, radius))  # (G,)
    peaks = gaussians_around(x, y, radius, (height, width), heatmap) * k
    if len(peaks):
        torch.maximum(heatmap, peaks.amax(0), out=heatmap)
    return heatmap


def gather_feat(feat: Tensor, ind: Tensor, mask: Tensor | None = None) -> Tensor:
    """Rows ``ind`` (B, K) of ``feat`` (B, N, D): (B, K, D), or those of the bool ``mask`` (B, K) alone, (M, D)."""
    picked = feat.gather(1, ind.unsqueeze(2).expand(-1, -1, feat.shape[2]))
    return picked if mask is None else picked[mask.bool()]


def transpose_and_gather_feat(feat: Tensor, ind: Tensor) -> Tensor:
    """The vectors of a map (B, D, H, W) at the cells ``ind`` (B, K): (B, K, D)."""
    return gather_rows(feat, ind, feat.shape[1])
