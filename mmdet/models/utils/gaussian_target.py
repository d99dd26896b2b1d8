"""Objects as peaks of heat maps: Gaussians to learn, and peaks to read (CornerNet, arXiv:1808.01244)."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Number = TypeVar('Number', float, Tensor)


def gaussian_radius(det_size: tuple[Number, Number], min_overlap: float) -> Number:
    """How far both corners of a box may move while its IoU with the box stays ``min_overlap``, CornerNet Sec. 3.2.

    The smallest of three cases: one corner moves in and one out, both move in, both move out.

    Args:
        det_size: Height and width, as numbers or as tensors of one shape.
    """
    height, width = det_size
    half = height + width
    area = height * width

    def root(a: float, b: Number, c: Number, sign: int) -> Number:
        return (b + sign * (b**2 - 4 * a * c) ** 0.5) / (2 * a)

    shifted = root(1, half, area * (1 - min_overlap) / (1 + min_overlap), -1)
    inside = root(4, 2 * half, (1 - min_overlap) * area, -1)
    outside = root(4 * min_overlap, -2 * min_overlap * half, (min_overlap - 1) * area, 1)
    if isinstance(shifted, Tensor):
        return torch.minimum(torch.minimum(shifted, inside), outside)
    return min(shifted, inside, outside)


def gaussian2D(
    radius: int, sigma: float = 1, dtype: torch.dtype = torch.float32, device: torch.device | str = 'cpu'
) -> Tensor:
    """A Gaussian around the middle of a square of ``2 * radius + 1`` cells, 1 at its peak."""
    offset = torch.arange(-radius, radius + 1, dtype=dtype, device=device)
    return _gaussian(offset, offset[:, None], sigma)


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
    x, y, radius = (torch.as_tensor(v, device=heatmap.device).reshape(-1, 1, 1) for v in (*center, radius))  # (G, 1, 1)
    dx = torch.arange(width, dtype=heatmap.dtype, device=heatmap.device) - x
    dy = torch.arange(height, dtype=heatmap.dtype, device=heatmap.device)[:, None] - y
    near = (dx.abs() <= radius) & (dy.abs() <= radius)
    peaks = _gaussian(dx, dy, (2 * radius + 1) / 6).masked_fill(~near, -torch.inf) * k  # (G, H, W)
    if len(peaks):
        torch.maximum(heatmap, peaks.amax(0), out=heatmap)
    return heatmap


def _gaussian(dx: Tensor, dy: Tensor, sigma: float | Tensor) -> Tensor:
    value = (-(dx * dx + dy * dy) / (2 * sigma * sigma)).exp()
    return value.masked_fill(value < torch.finfo(value.dtype).eps, 0)


def get_local_maximum(heat: Tensor, kernel: int = 3) -> Tensor:
    """Heat maps (B, C, H, W) with zeros where a neighbour within ``kernel`` cells is higher."""
    highest = F.max_pool2d(heat, kernel, stride=1, padding=(kernel - 1) // 2)
    return heat * (highest == heat)


def get_topk_from_heatmap(scores: Tensor, k: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The k highest cells of each image.

    Args:
        scores: (B, C, H, W).

    Returns:
        Scores, indices among the H * W cells, classes, y and x (as float), each (B, k).
    """
    height, width = scores.shape[2:]
    values, index = scores.flatten(1).topk(k)
    classes, cell = index // (height * width), index % (height * width)
    return values, cell, classes, cell // width, (cell % width).float()


def gather_feat(feat: Tensor, ind: Tensor, mask: Tensor | None = None) -> Tensor:
    """Rows ``ind`` (B, K) of ``feat`` (B, N, D): (B, K, D), or those of the bool ``mask`` (B, K) alone, (M, D)."""
    picked = feat.gather(1, ind.unsqueeze(2).expand(-1, -1, feat.shape[2]))
    return picked if mask is None else picked[mask.bool()]


def transpose_and_gather_feat(feat: Tensor, ind: Tensor) -> Tensor:
    """The vectors of a map (B, D, H, W) at the cells ``ind`` (B, K): (B, K, D)."""
    return gather_feat(feat.flatten(2).transpose(1, 2), ind)
