"""Ground-truth masks of a batch, read where they lie: as windows of one bit a pixel.

Letters: B images, N masks of all images, S slots, h and w of a target, H and W of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdet.structures.mask import BaseInstanceMasks
from mmdet.structures.mask.windows import MaskWindows, join, move_together

from .constants import constant
from .masks import windows_of
from .object_cells import starts_of

# Pixels that are looked up at once.
SAMPLE_BUDGET = 4 * 1024**2


@dataclass
class GTMasks:
    """Masks of all images one after another; there is at least one, an empty one if need be.

    Attributes:
        bits: ``(bytes,)`` uint8, see ``mmdet.structures.mask.MaskWindows``.
        table: ``(N, 5)`` int32: x1, y1, width, height and first byte of each mask.
        starts: Place of each image's first mask among the N.
        height, width: Of the largest picture.
    """

    bits: Tensor
    table: Tensor
    starts: list[int]
    height: int
    width: int

    @classmethod
    def of(cls, masks: Sequence[BaseInstanceMasks | Tensor], device: torch.device) -> GTMasks:
        """Of the masks of each image. Polygons, and bitmaps of values other than 0 and 1, are drawn by the host."""
        parts = []
        for image in masks:
            windows = windows_of(image, device)
            parts.append(_drawn(image, device) if windows is None else windows)
        bits, tables = join(parts)
        starts = starts_of(map(len, tables))
        table = torch.cat(tables)
        if not len(table):
            table = table.new_zeros(1, 5)
        shapes = [image.shape[1:] if isinstance(image, Tensor) else (image.height, image.width) for image in masks]
        height, width = (max(sides) for sides in zip(*shapes))
        return cls(torch.nn.functional.pad(bits, (0, 1)), table, starts, height, width)

    def rows(self, gt_inds: Tensor) -> Tensor:
        """Places ``(B, S)`` among the N masks of 0-based ground truths ``(B, S)`` of each image."""
        starts = constant(self.starts, like=gt_inds)
        return (starts[:, None] + gt_inds).clamp(max=len(self.table) - 1)

    def padded(self, values: Tensor, mask: Tensor) -> Tensor:
        """Values ``(N, ...)`` as ``(B, G, ...)`` for padded ground truths, marked in ``mask (B, G)``."""
        index = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
        return values[self.rows(torch.where(mask, index, 0))]

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Pixels ``(N, h, w)`` uint8, 1 inside, at the crossings of rows ``(h,)`` and columns ``(w,)``."""
        step = max(1, SAMPLE_BUDGET // max(1, len(rows) * len(columns)))
        return torch.cat([self._look_up(part, rows, columns) for part in self.table.split(step)])

    def _look_up(self, table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        x1, y1, width, height, start = (value[:, None] for value in table.unbind(1))
        x, y = columns.int() - x1, rows.int() - y1  # (n, w), (n, h)
        wide, high = (x >= 0) & (x < width), (y >= 0) & (y < height)
        line = torch.where(high, start + y * ((width + 7) >> 3), 0)
        byte = line[:, :, None] + torch.where(wide, x >> 3, 0)[:, None]  # (n, h, w)
        found = self.bits.index_select(0, byte.flatten()).view(byte.shape)
        found &= torch.where(wide, 128 >> (x & 7), 0).to(torch.uint8)[:, None]
        return (found != 0).view(torch.uint8) * high.view(torch.uint8)[:, :, None]

    def strided(self, stride: int, size: tuple[int, int], phases: int = 1) -> Tensor:
        """``(N, h, w)`` uint8: the pixel at ``stride // 2`` of every ``stride`` pixels.

        Args:
            phases: Along each axis come first the cells 0, phases, 2 * phases and so on, then 1, phases + 1 and so on.
        """
        cells = (torch.arange(side, device=self.bits.device).view(-1, phases).t().flatten() for side in size)
        y, x = (cell * stride + stride // 2 for cell in cells)
        return self.at(y, x)

    def resized(self, size: tuple[int, int], shape: tuple[int, int]) -> Tensor:
        """Shares ``(N, h, w)`` of masks of ``shape`` (H, W), resized to ``size`` (h, w) with bilinear weights."""
        (top, bottom, down), (left, right, across) = (
            _neighbours(side, extent, self.bits.device) for side, extent in zip(size, shape)
        )
        above, below = (self.at(y, left) * (1 - across) + self.at(y, right) * across for y in (top, bottom))
        return above * (1 - down)[:, None] + below * down[:, None]

    def centers(self) -> tuple[Tensor, Tensor]:
        """Pixels of each mask ``(N,)`` and its centre of mass ``(N, 2)`` xy, 0 for an empty one.

        Sums over the bytes of a row are differences of running sums, so that masks may be of any size.
        """
        shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.bits.device)
        pixels = (self.bits[:, None] >> shifts) & 1  # (bytes, 8)
        count = pixels.sum(1)
        places = torch.arange(len(count), device=count.device) * 8
        place = (pixels * (7 - shifts)).sum(1) + count * places  # sum over pixels of where they lie in the bits
        sums = torch.nn.functional.pad(torch.stack([count, place]).cumsum(1), (1, 0))
        x1, y1, width, rows, start = self.table.long()[..., None].unbind(1)  # (N, 1)
        row, stride = torch.arange(self.height, device=count.device), (width + 7) >> 3
        first = torch.where(row < rows, start + row * stride, 0)  # (N, height)
        last = torch.where(row < rows, first + stride, 0)
        number, where = sums[:, last] - sums[:, first]
        area = number.sum(1)
        center = torch.stack([(where - first * 8 * number).sum(1), (number * row).sum(1)], 1)
        corner = torch.cat([x1, y1], 1)
        mean = center.double() / area.clamp(min=1)[:, None] + torch.where(area[:, None] > 0, corner, 0)
        return area, mean.float()


def _drawn(masks: BaseInstanceMasks, device: torch.device) -> MaskWindows:
    windows = MaskWindows.pack(masks.to_ndarray() != 0)
    assert windows is not None  # of bool there always are
    return windows if device.type == 'cpu' else move_together([windows], device)[0]


def _neighbours(size: int, extent: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of cells resized from ``extent`` to ``size``: the pixels before and behind each, and the weight of the latter."""
    place = ((torch.arange(size, device=device) + 0.5) * (extent / size) - 0.5).clamp(min=0)
    before = place.floor()
    return before.int(), (before + 1).clamp(max=extent - 1).int(), place - before
