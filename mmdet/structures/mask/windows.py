"""Bitmaps cut to their pixels, one bit a pixel: how masks travel to a device and lie there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class MaskWindows:
    """N bitmaps, each as the smallest window around its pixels.

    Attributes:
        bits: ``(bytes,)`` uint8: windows row by row, each row filled up to whole bytes, its first pixel in the highest
            bit. Windows of several images may share it.
        table: ``(N, 5)`` int32: x1, y1, width and height of each window in pixels, and its first byte in ``bits``.
    """

    bits: Tensor
    table: Tensor

    @classmethod
    def pack(cls, masks: np.ndarray) -> MaskWindows | None:
        """Windows of ``(N, h, w)`` bitmaps of bool or uint8; None if there are other types or values than 0 and 1."""
        import cv2

        if masks.dtype != bool and masks.dtype != np.uint8:
            return None
        parts, table, start = [], np.zeros((len(masks), 5), np.int32), 0
        for row, mask in zip(table, masks, strict=True):
            mask = np.ascontiguousarray(mask).view(np.uint8)
            x, y, width, height = cv2.boundingRect(mask) if mask.size else (0, 0, 0, 0)
            window = mask[y : y + height, x : x + width]
            if window.size and window.max() > 1:
                return None
            row[:] = x, y, width, height, start
            parts.append(np.packbits(window, axis=1).reshape(-1))
            start += len(parts[-1])
        bits = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
        return cls(torch.from_numpy(bits), torch.from_numpy(table))

    @classmethod
    def filled(cls, boxes: np.ndarray, height: int, width: int) -> MaskWindows:
        """All pixels that boxes ``(N, 4)`` touch in a picture of ``height`` and ``width``."""
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] + 1], 1).astype(np.int64)
        x1, y1, x2, y2 = corners.clip(0, np.array([width, height] * 2)).T
        parts, table, start = [np.zeros(0, np.uint8)], np.zeros((len(boxes), 5), np.int32), 0
        for row, x, y, columns, rows in zip(table, x1, y1, x2 - x1, y2 - y1, strict=True):
            row[:] = x, y, max(columns, 0), max(rows, 0), start
            parts.append(np.tile(np.packbits(np.ones(row[2], bool)), row[3]))
            start += len(parts[-1])
        return cls(torch.from_numpy(np.concatenate(parts)), torch.from_numpy(table))

    @classmethod
    def from_tensor(cls, masks: Tensor) -> MaskWindows:
        """Whole bitmaps ``(N, h, w)``, inside where not 0, on their device and without a look at them."""
        count, height, width = masks.shape
        stride = -(-width // 8)
        filled = torch.nn.functional.pad(masks != 0, (0, stride * 8 - width)).unflatten(2, (stride, 8))
        powers = 2 ** torch.arange(7, -1, -1, device=masks.device)
        first = torch.arange(count, dtype=torch.int32, device=masks.device)[:, None] * (stride * height)
        size = torch.ones_like(first)
        table = torch.cat([size * 0, size * 0, size * width, size * height, first], 1)
        return cls((filled * powers).sum(-1).to(torch.uint8).flatten(), table)

    def unpack(self, height: int, width: int) -> np.ndarray:
        """Whole bitmaps ``(N, height, width)``, uint8."""
        bits, masks = self.bits.cpu().numpy(), np.zeros((len(self), height, width), np.uint8)
        for mask, (x, y, columns, rows, start) in zip(masks, self.table.tolist(), strict=True):
            stride = -(-columns // 8)
            window = bits[start : start + rows * stride].reshape(rows, stride)
            mask[y : y + rows, x : x + columns] = np.unpackbits(window, axis=1, count=columns)
        return masks

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> MaskWindows:
        """Those at an index, slice, list or boolean mask, without a copy of their pixels."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        return MaskWindows(self.bits, self.table[torch.from_numpy(rows).to(self.table.device)])

    def to(self, device: torch.device, non_blocking: bool = False) -> MaskWindows:
        """The same on another device; see :func:`move_together` for those of a batch."""
        return MaskWindows(*(value.to(device, non_blocking=non_blocking) for value in (self.bits, self.table)))


def move_together(parts: Sequence[MaskWindows], device: torch.device) -> list[MaskWindows]:
    """Windows of several images on ``device``, in one copy from pinned memory; they share their ``bits``."""
    tables, start = [], 0
    for part in parts:
        tables.append(part.table + torch.tensor([0, 0, 0, 0, start], dtype=torch.int32))
        start += len(part.bits)
    table = torch.cat(tables)
    buffer = torch.cat([table.flatten().view(torch.uint8), *(part.bits for part in parts)])
    if device.type == 'cuda':
        buffer = buffer.pin_memory()
    buffer = buffer.to(device, non_blocking=True)
    rows, bits = buffer[: table.numel() * 4].view(torch.int32).view(-1, 5), buffer[table.numel() * 4 :]
    return [MaskWindows(bits, part) for part in rows.split([len(part) for part in parts])]


def join(parts: Sequence[MaskWindows]) -> tuple[Tensor, list[Tensor]]:
    """One ``bits`` of all images and their tables that point into it."""
    first = parts[0].bits
    if all(part.bits is first for part in parts):
        return first, [part.table for part in parts]
    tables, start = [], 0
    for part in parts:
        tables.append(torch.cat([part.table[:, :4], part.table[:, 4:] + start], 1))
        start += len(part.bits)
    return torch.cat([part.bits for part in parts]), tables
