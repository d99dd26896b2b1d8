"""Weighted sums of bilinearly interpolated points, any number of them for each output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear_corners(x: Tensor, y: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Cells around points, and their weights.

    Args:
        x: In cells, 0 at the centre of the first column; any shape (...).
        y: Of the same shape.

    Returns:
        Row-major cell numbers and weights, both of shape (..., 4). Cells outside the map have weight zero.
    """
    left, top = x.detach().floor(), y.detach().floor()
    index, weight = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            corner = (1 - (x - column).abs()) * (1 - (y - row).abs()) * inside
            cell = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            index.append(cell.long())
            weight.append(corner)
    return torch.stack(index, -1), torch.stack(weight, -1)


def bilinear_bags(features: Tensor, image: Tensor, x: Tensor, y: Tensor, point_weight: Tensor | None = None) -> Tensor:
    """Sum over the points of each bag, without storing the single values.

    Args:
        features: Shape (B, C, H, W).
        image: Which image a bag looks at, shape (K,).
        x: Columns of the points of each bag, shape (K, S); a gradient flows into them.
        y: Rows of the points, shape (K, S).
        point_weight: Shape (K, S).

    Returns:
        Shape (K, C).
    """
    batch, channels, height, width = features.shape
    if not image.shape[0] or not batch:  # len() would fix the size of a graph
        return (features.sum() + x.sum() + y.sum()) * 0 + features.new_zeros(image.shape[0], channels)
    index, weight = bilinear_corners(x, y, width, height)
    if point_weight is not None:
        weight = weight * point_weight[..., None]
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
    index = index + image.long()[:, None, None] * (height * width)
    return F.embedding_bag(index.flatten(1), rows, mode='sum', per_sample_weights=weight.flatten(1).to(rows.dtype))
