"""Objects as peaks of heat maps: Gaussians to learn, and peaks to read (CornerNet, arXiv:1808.01244).

Letters: B images, G padded ground truths, C classes, H and W cells, N = H * W, D values of a cell, K peaks.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .gt import PaddedGT

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


def gaussians_around(x: Tensor, y: Tensor, radius: Tensor, size: tuple[int, int], like: Tensor) -> Tensor:
    """``(..., H, W)`` Gaussians around cells x, y ``(...)``, 0 beyond ``radius`` (...) cells, three times sigma."""
    radius = radius[..., None]
    sigma = (2 * radius + 1) / 6

    def along(axis: int, center: Tensor) -> Tensor:
        away = torch.arange(size[axis], dtype=like.dtype, device=like.device) - center[..., None]
        return (-away.square() / (2 * sigma.square())).exp().masked_fill(away.abs() > radius, 0)

    return along(0, y)[..., :, None] * along(1, x)[..., None, :]


def raise_by_class(heat: Tensor, values: Tensor, labels: Tensor) -> None:
    """Raise maps ``(B, C, N)``, in place, to the ``values (B, G, N)`` of objects of ``labels (B, G)``."""
    heat.scatter_reduce_(1, labels[..., None].expand_as(values), values, 'amax')


def gaussian_heatmaps(
    gt: PaddedGT, x: Tensor, y: Tensor, radius: Tensor, num_classes: int, size: tuple[int, int]
) -> Tensor:
    """``(B, C, H, W)``: the highest of the Gaussians of each class, as in :func:`gaussians_around`.

    Args:
        x, y, radius: ``(B, G)`` whole numbers of cells.
    """
    num_cells = size[0] * size[1]
    heat = gt.boxes.new_zeros(len(gt.boxes), num_classes, num_cells)
    radius = torch.where(gt.mask, radius, -1)  # nothing is within it
    for part in gt.chunks(num_cells):
        values = gaussians_around(x[:, part], y[:, part], radius[:, part], size, heat).flatten(2)
        raise_by_class(heat, values, gt.labels[:, part])
    return heat.unflatten(2, size)


def values_at_cells(values: Tensor, cell: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps ``(B, D, H, W)`` with the values of objects at their cells, where the last of several stands, 0 elsewhere.

    Args:
        values: ``(B, G, D)``; only those that ``mask (B, G)`` marks count.
        cell: ``(B, G)`` flat positions.
    """
    num_cells = size[0] * size[1]
    order = torch.arange(1, cell.shape[1] + 1, device=cell.device) * mask  # (B, G)
    last = torch.zeros(len(cell), num_cells, dtype=torch.long, device=cell.device)
    last = last.scatter_reduce(1, cell, order, 'amax')
    stands = mask & (last.gather(1, cell) == order)
    values = torch.where(stands[..., None], values, 0.0).transpose(1, 2)  # (B, D, G)
    maps = values.new_zeros(*values.shape[:2], num_cells)
    return maps.scatter_add(2, cell[:, None].expand_as(values), values).unflatten(2, size)


def local_maxima(heat: Tensor, kernel: int = 3) -> Tensor:
    """Heat maps (B, C, H, W) with zeros where a neighbour within ``kernel`` cells is higher."""
    highest = F.max_pool2d(heat, kernel, stride=1, padding=(kernel - 1) // 2)
    return heat * (highest == heat)


def highest_cells(scores: Tensor, k: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The highest cells of each image: k, or all where there are fewer.

    Args:
        scores: (B, C, H, W).

    Returns:
        Scores, indices among the H * W cells, classes, y and x (as float), each (B, K).
    """
    height, width = scores.shape[2:]
    flat = scores.flatten(1)
    values, index = flat.topk(min(k, flat.shape[1]))
    classes, cell = index // (height * width), index % (height * width)
    return values, cell, classes, cell // width, (cell % width).float()
