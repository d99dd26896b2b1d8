"""Where the middles of objects lie on the levels of a pyramid (Guided Anchoring, arXiv:1901.03278, Sec. 3.2).

Letters: B images, G padded ground truths, g of them in one part, P locations of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .gt import PaddedGT
from .pyramid import split_levels


@dataclass
class CenterRegions:
    """What the regions around the centres of objects say of every location.

    Attributes:
        gt_inds: ``(B, P)`` i + 1 in the centre region of ground truth i, -1 where an object has only its ignore region,
            0 elsewhere. Where several objects of a level meet, the last one decides.
        center: ``(B, P)`` bool, in the centre region of any object.
        near: ``(B, P)`` bool, in what would be the ignore region of an object of the level below or above.
    """

    gt_inds: Tensor
    center: Tensor
    near: Tensor

    @classmethod
    def of(
        cls,
        points: Tensor,
        gt: PaddedGT,
        level_sizes: Sequence[int],
        map_sizes: Sequence[tuple[int, int]],
        strides: Sequence[int | float],
        scale: float,
        center_ratio: float,
        ignore_ratio: float,
    ) -> CenterRegions:
        """
        Args:
            points: ``(1 or B, P, 2)`` xy in cells of their level.
            map_sizes: Height and width of each level in cells.
            scale: Sides of boxes of a level in strides; each object is of the level that fits its area best.
            center_ratio, ignore_ratio: Sides of the regions in sides of the object.
        """
        batch, count = len(gt.mask), points.shape[1]
        level = _levels_of(gt.boxes.float(), float(scale * strides[0]), len(strides))
        level = torch.where(gt.mask, level, -2)  # neither a level nor next to one
        claimed, owned = torch.zeros(2, batch, count, dtype=torch.int32, device=points.device)
        near = torch.zeros(batch, count, dtype=torch.bool, device=points.device)
        for part in gt.chunks(count, matrices=4):
            boxes, of = gt.boxes[:, part].float(), level[:, part]
            number = torch.arange(boxes.shape[1], device=boxes.device, dtype=torch.int32)[:, None] + part.start + 1
            rows = []
            for i, (places, size, stride) in enumerate(zip(split_levels(points, level_sizes), map_sizes, strides)):
                inner, outer = (
                    _holds(middle_cells(boxes / stride, (1 - ratio) / 2, size), places)
                    for ratio in (center_ratio, ignore_ratio)
                )  # (B, g, P of the level)
                own, beside = (of == i)[..., None], ((of - i).abs() == 1)[..., None]
                touched = torch.where(own & (inner | outer), number, 0).amax(1)
                rows.append((touched, torch.where(own & inner, number, 0).amax(1), (beside & outer).any(1)))
            touched, centered, around = (torch.cat(column, 1) for column in zip(*rows))
            claimed, owned, near = torch.maximum(claimed, touched), torch.maximum(owned, centered), near | around
        inds = torch.where(owned == claimed, owned, -1)  # 0 where no object reaches
        return cls(inds.long(), owned > 0, near)


def middle_cells(
    boxes: Tensor, ratio: float, map_size: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The middle of boxes ``(..., 4)`` with ``ratio`` of their sides left out at each end, rounded to whole cells.

    Args:
        map_size: Height and width that the corners are clamped to.

    Returns:
        x1, y1, x2 and y2, each ``(...)`` float.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    between = lambda start, end: torch.round((1 - ratio) * start + ratio * end)
    inner = lambda start, end: torch.round(ratio * start + (1 - ratio) * end)
    left, top, right, bottom = between(x1, x2), between(y1, y2), inner(x1, x2), inner(y1, y2)
    if map_size is not None:
        left, right = left.clamp(0, map_size[1]), right.clamp(0, map_size[1])
        top, bottom = top.clamp(0, map_size[0]), bottom.clamp(0, map_size[0])
    return left, top, right, bottom


def cell_grid(map_sizes: Sequence[tuple[int, int]], device: torch.device | str) -> Tensor:
    """``(1, P, 2)`` xy of the cells of level maps, in the order level, y, x."""
    levels = []
    for height, width in map_sizes:
        y, x = torch.arange(height, device=device), torch.arange(width, device=device)
        levels.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], -1))
    return torch.cat(levels)[None].float()


def _levels_of(boxes: Tensor, smallest: float, count: int) -> Tensor:
    """``(B, G)`` level of boxes ``(B, G, 4)``, of which the first has sides of ``smallest`` pixels."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    side = ((x2 - x1) * (y2 - y1)).clamp(min=0).sqrt()
    first = torch.full_like(side, smallest)
    return (side.log2() - first.log2() + 0.5).floor().clamp(0, count - 1).long()


def _holds(regions: tuple[Tensor, ...], points: Tensor) -> Tensor:
    """``(B, g, P)`` bool: which points ``(1 or B, P, 2)`` lie in regions, four tensors ``(B, g)``."""
    left, top, right, bottom = (side[..., None] for side in regions)
    x, y = points[:, None].unbind(-1)
    return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
