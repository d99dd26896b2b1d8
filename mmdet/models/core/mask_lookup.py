"""Instance masks looked at as they lie on the device: how much of them regions hold, and their values at points.

Letters: K regions, P points of each, R rows of the highest image. ``bits`` and ``windows (K, 5)`` are those of
``mmdet.structures.mask.MaskWindows``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.structures.mask.windows import MaskWindows

from .masks import joined_windows, mask_size, windows_of


def mask_shares(boxes: Tensor, image: Tensor, gt_inds: Tensor, gt_masks: Sequence) -> Tensor:
    """The part ``(K,)`` of its ground truth's pixels that each region holds.

    Polygons, and bitmaps of other values than 0 and 1, are cut by the host; it waits for nothing else.

    Args:
        boxes: ``(K, 4)``, whose coordinates are cut to whole pixels; a region has at least one row and column.
        image, gt_inds: ``(K,)`` where a region lies, and its 0-based ground truth there.
        gt_masks: Masks of each image: ``BitmapMasks``, ``PolygonMasks`` or a tensor ``(N, H, W)``.
    """
    boxes = boxes.detach()

    def by_windows(bits: Tensor, windows: Tensor) -> Tensor:
        inside, total = window_counts(bits, windows, boxes.long(), max(mask_size(masks)[0] for masks in gt_masks))
        return inside.to(boxes.dtype) / (total.to(boxes.dtype) + 1e-7)

    def by_masks(masks, rows: Tensor) -> Tensor:
        areas, corners, index = masks.areas, boxes[rows].long().cpu().numpy(), gt_inds[rows].tolist()
        inside = [masks[[i]].crop(corner).areas[0] for i, corner in zip(index, corners)]
        return boxes.new_tensor([part / (areas[i] + 1e-7) for i, part in zip(index, inside)])

    return _of_windows_or_masks(boxes[:, 0], image, gt_inds, gt_masks, by_windows, by_masks)


def mask_values(points: Tensor, image: Tensor, gt_inds: Tensor, gt_masks: Sequence) -> Tensor:
    """Ground truths interpolated at points ``(K, P, 2)``, x and y in pixels of the image: ``(K, P)``.

    0 beyond the middles of the outer pixels but for what fades out. What is drawn by the host is as for
    :func:`mask_shares`.
    """

    def by_masks(masks, rows: Tensor) -> Tensor:
        bitmaps = masks.to_tensor(points.dtype, points.device)[gt_inds[rows]]
        sizes = points.new_tensor(bitmaps.shape[:0:-1])
        return F.grid_sample(bitmaps[:, None], (points[rows] / sizes * 2 - 1)[:, None], align_corners=False)[:, 0, 0]

    by_windows = lambda bits, windows: window_values(bits, windows, points)
    return _of_windows_or_masks(points[..., 0], image, gt_inds, gt_masks, by_windows, by_masks)


def _of_windows_or_masks(
    like: Tensor, image: Tensor, gt_inds: Tensor, gt_masks: Sequence, by_windows: Callable, by_masks: Callable
) -> Tensor:
    """Values ``(K, ...)``, of the images whose masks have no windows by the masks themselves."""
    parts: list[MaskWindows | None] = [windows_of(masks, like.device) for masks in gt_masks]
    bits, windows = joined_windows(parts, gt_masks, like.device)
    out = by_windows(bits, windows[image, gt_inds])
    for b, part in enumerate(parts):
        if part is None and len(rows := (image == b).nonzero()[:, 0]) and len(gt_masks[b]):
            out[rows] = by_masks(gt_masks[b], rows)
    return out


def window_counts(bits: Tensor, windows: Tensor, boxes: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """How many pixels of each mask lie within ``boxes (K, 4)`` of whole numbers, and how many there are, ``(K,)``.

    Args:
        rows: R, at least the height of each window.
    """
    x, y, width, height, start = windows.long().T[:, :, None]  # (K, 1) each
    x1, y1, x2, y2 = boxes.clamp(min=0).T[:, :, None]
    x2, y2 = x2.maximum(x1 + 1), y2.maximum(y1 + 1)
    stride = (width + 7) // 8
    bits = F.pad(bits, (0, 1)).int()
    before = F.pad(_ones(bits).cumsum(0), (1, 0))  # of each byte, the pixels in those before it
    row = torch.arange(rows, device=bits.device)
    first = start + row * stride  # (K, R)

    def until(column: Tensor) -> Tensor:
        column = (column - x).clamp(min=0).minimum(width)
        byte = (first + column // 8).clamp(max=len(bits) - 1)
        return before[byte] + _ones(bits[byte] >> (8 - column % 8))

    counted = (row < height) & (row >= y1 - y) & (row < y2 - y)
    total = before[start + stride * height] - before[start]
    return ((until(x2) - until(x1)) * counted).sum(1), total[:, 0]


def _ones(byte: Tensor) -> Tensor:
    """How many bits of integers below 256 are set."""
    byte = byte - ((byte >> 1) & 0x55)
    byte = (byte & 0x33) + ((byte >> 2) & 0x33)
    return (byte + (byte >> 4)) & 0x0F


def window_values(bits: Tensor, windows: Tensor, points: Tensor) -> Tensor:
    """Masks interpolated at ``points (K, P, 2)`` between the middles of pixels: ``(K, P)``."""
    x, y, width, height, start = windows.long().T[:, :, None]
    bits = F.pad(bits, (0, 1)).int()
    at = points - torch.cat([x, y], 1)[:, None].to(points.dtype) - 0.5
    low = at.floor()
    share = at - low
    values: list[Tensor] = []
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = low[..., 0].long() + dx, low[..., 1].long() + dy
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        byte = torch.where(inside, start + row * ((width + 7) // 8) + column // 8, len(bits) - 1)
        weight = (share if dx else 1 - share)[..., 0] * (share if dy else 1 - share)[..., 1]
        values.append(((bits[byte] >> (7 - column % 8)) & 1) * weight)
    return torch.stack(values).sum(0)
