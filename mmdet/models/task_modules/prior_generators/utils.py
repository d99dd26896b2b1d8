from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import middle_cells
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes


class PriorGrid:
    """What all prior generators have in common."""

    @staticmethod
    def _meshgrid(x: Tensor, y: Tensor, row_major: bool = True) -> tuple[Tensor, Tensor]:
        """All pairs of ``x`` and ``y``, each ``(len(y) * len(x),)``, row by row; else ``y`` first."""
        xx, yy = x.repeat(y.shape[0]), y[:, None].expand(-1, x.shape[0]).reshape(-1)
        return (xx, yy) if row_major else (yy, xx)


def valid_grid(size: tuple[int, int], valid: tuple[int, int], num_base: int, device: torch.device | str) -> Tensor:
    """``(H * W * num_base,)`` bool: which locations lie in the first ``valid`` rows and columns."""
    rows = torch.arange(size[0], device=device) < valid[0]
    columns = torch.arange(size[1], device=device) < valid[1]
    return (rows[:, None] & columns).reshape(-1, 1).expand(-1, num_base).reshape(-1)


def anchor_inside_flags(
    flat_anchors: Tensor | BaseBoxes, valid_flags: Tensor, img_shape: tuple[int, ...], allowed_border: float = 0
) -> Tensor:
    """Which anchors (P, 4) are valid and reach at most ``allowed_border`` pixels out of the image; (P,) bool.

    Args:
        img_shape: Height and width, then anything.
        allowed_border: Any distance if negative.
    """
    if allowed_border < 0:
        return valid_flags
    boxes = flat_anchors if isinstance(flat_anchors, BaseBoxes) else HorizontalBoxes(flat_anchors, clone=False)
    return valid_flags & boxes.is_inside(img_shape[:2], all_inside=True, allowed_border=allowed_border)


def calc_region(
    bbox: Tensor, ratio: float, featmap_size: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The middle of a box (4,) with ``ratio`` of its sides left out at each end, in whole cells: x1, y1, x2, y2.

    Args:
        featmap_size: Height and width that the corners are clamped to.
    """
    x1, y1, x2, y2 = middle_cells(bbox, ratio, featmap_size)
    return x1.long(), y1.long(), x2.long(), y2.long()
