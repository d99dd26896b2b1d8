"""Which cells of which grids are trained for an object (SOLO, arXiv:1912.04488, Sec. 3.3.1).

Letters: B images, G padded ground truths, L grids, P cells of all grids in the order grid, row, column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from .constants import constant
from .gt import pad_batch


@dataclass
class ObjectCells:
    """Up to nine cells around the centre of each object, on each grid that fits its size.

    Attributes:
        cells: ``(B, G, L, 9)`` cell among the P; 0 where there is none.
        used: ``(B, G, L, 9)`` bool.
        num_cells: P.
        num_fitting: Most grids that fit one size.
    """

    cells: Tensor
    used: Tensor
    num_cells: int
    num_fitting: int

    @classmethod
    def around(
        cls,
        boxes: Tensor,
        centers: Tensor,
        valid: Tensor,
        shape: tuple[int, int],
        scale_ranges: Sequence[tuple[float, float]],
        num_grids: Sequence[int],
        pos_scale: float,
    ) -> ObjectCells:
        """
        Args:
            boxes: ``(B, G, 4)``; the square root of its area must lie in the range of a grid.
            centers: ``(B, G, 2)`` xy of the masks' centres of mass.
            valid: ``(B, G)`` bool: whether there is such an object, and its mask is not empty.
            shape: Height and width in pixels that a grid divides.
            pos_scale: Sides of the centre region in sides of the box.
        """
        x1, y1, x2, y2 = boxes.float().unbind(-1)
        low, high = constant([list(limits) for limits in scale_ranges], like=x1).t()
        side = ((x2 - x1) * (y2 - y1)).sqrt()[..., None]
        fits = (side >= low) & (side <= high) & valid[..., None]  # (B, G, L)
        columns, in_columns = _beside(centers[..., 0], (x2 - x1) * 0.5 * pos_scale, shape[1], num_grids)
        rows, in_rows = _beside(centers[..., 1], (y2 - y1) * 0.5 * pos_scale, shape[0], num_grids)
        starts = constant(starts_of(count**2 for count in num_grids), like=rows)
        counts = constant(list(num_grids), like=rows)
        cells = rows[..., :, None] * counts[:, None, None] + columns[..., None, :] + starts[:, None, None]
        used = in_rows[..., :, None] & in_columns[..., None, :] & fits[..., None, None]
        fitting = max(sum(a <= end <= b for a, b in scale_ranges) for limits in scale_ranges for end in limits)
        num_cells = sum(count * count for count in num_grids)
        return cls(torch.where(used, cells, 0).flatten(-2), used.flatten(-2), num_cells, fitting)

    @property
    def most_pairs(self) -> int:
        """No image has more pairs of an object and one of its cells; known on the host."""
        return self.cells.shape[1] * self.num_fitting * 9

    def owners(self) -> Tensor:
        """``(B, P)``: i + 1 in a cell of ground truth i, of several the last; 0 elsewhere."""
        number = torch.arange(1, self.cells.shape[1] + 1, device=self.cells.device)[:, None, None]
        number = torch.where(self.used, number, 0).flatten(1)
        none = number.new_zeros(len(number), self.num_cells)
        return none.scatter_reduce(1, self.cells.flatten(1), number, 'amax')


def starts_of(sizes: Iterable[int]) -> list[int]:
    """Where each part begins of parts of ``sizes`` one after another."""
    return [0, *accumulate(sizes)][:-1]


def _beside(center: Tensor, reach: Tensor, extent: int, num_grids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Along one axis: the cell of the centre and those beside it ``(B, G, L, 3)``, and which of them the object's
    centre region, ``reach`` pixels to both sides, touches."""
    widths = constant([1 / count for count in num_grids], like=center)
    last = constant([count - 1 for count in num_grids], like=center)
    cell_of = lambda place: (place / extent)[..., None] // widths  # (B, G, L)
    middle, first, end = cell_of(center), cell_of(center - reach).clamp(min=0), cell_of(center + reach).minimum(last)
    cells = middle[..., None] + constant([-1, 0, 1], like=center)
    return cells.long(), (cells >= first[..., None]) & (cells <= end[..., None])


@dataclass
class CellTargets:
    """Cells that are trained to give a mask, and which.

    Attributes:
        cells: ``(B, S)`` cell of a grid, or of all grids.
        used: ``(B, S)`` bool; other slots count for nothing.
        rows: ``(B, S)`` place of each slot's mask in ``masks (N, h, w)`` uint8.
    """

    cells: Tensor
    used: Tensor
    rows: Tensor
    masks: Tensor

    @classmethod
    def from_lists(cls, cells: Sequence[Tensor], masks: Sequence[Tensor]) -> CellTargets:
        """Of the cells ``[(n,)]`` and masks ``[(n, h, w)]`` of each image."""
        used = pad_batch([torch.ones_like(image, dtype=torch.bool) for image in cells])
        rows = (used.flatten().cumsum(0) - 1).clamp(min=0).view(used.shape)
        every = torch.cat(list(masks))
        return cls(pad_batch(cells), used, rows, every if len(every) else every.new_zeros(1, *every.shape[1:]))

    def by_image(self) -> list[tuple[Tensor, Tensor]]:
        """The cells ``(n,)`` and masks ``(n, h, w)`` of each image."""
        return [(cells[used], self.masks[rows[used]]) for cells, used, rows in zip(self.cells, self.used, self.rows)]
