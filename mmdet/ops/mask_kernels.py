"""The kernels that cut masks out and paste them, for GPUs. Importable without Triton, then without kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .triton_jit import jit, tl

# Bins of a program that cuts out, rows and columns of one that pastes.
BINS = 256
TILE = (8, 128)


def crop(
    bits: Tensor, windows: Tensor, shapes: Tensor, boxes: Tensor, valid: Tensor, rows: int, columns: int
) -> Tensor:
    """See :func:`mmdet.ops.crop_windows`."""
    out = boxes.new_empty(len(boxes), rows, columns)
    if len(boxes):
        # Products that are rounded before they are added, as on the CPU.
        crop_kernel[(len(boxes), -(-rows * columns // BINS))](
            bits, windows, shapes, boxes, valid.to(torch.int32), out, rows, columns, BINS=BINS, num_warps=4,
            enable_fp_fusion=False,
        )  # fmt: skip
    return out


def _crop(bits, windows, shapes, boxes, valid, out, rows, columns, BINS: tl.constexpr):
    """Some bins of one region: the mean of as many bilinear samples in each direction as a bin has pixels."""
    region = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BINS + tl.arange(0, BINS)
    row, column = place // columns, place % columns
    exists = place < rows * columns
    x, y = tl.load(windows + region * 5), tl.load(windows + region * 5 + 1)
    width, height = tl.load(windows + region * 5 + 2), tl.load(windows + region * 5 + 3)
    bits += tl.load(windows + region * 5 + 4).to(tl.int64)
    stride = (width + 7) // 8
    bottom, right = tl.load(shapes + region * 2) - 1, tl.load(shapes + region * 2 + 1) - 1
    start_x, start_y = tl.load(boxes + region * 4) - 0.5, tl.load(boxes + region * 4 + 1) - 0.5
    size_x = (tl.load(boxes + region * 4 + 2) - 0.5) - start_x
    size_y = (tl.load(boxes + region * 4 + 3) - 0.5) - start_y
    bin_x, bin_y = tl.div_rn(size_x, columns.to(tl.float32)), tl.div_rn(size_y, rows.to(tl.float32))
    count_x = tl.ceil(bin_x).to(tl.int32)
    count_y = tl.ceil(bin_y).to(tl.int32)
    samples = tl.maximum(count_x * count_y, 1)
    count_y = tl.where(tl.load(valid + region) > 0, count_y, 0)

    total = tl.zeros((BINS,), tl.float32)
    i = 0
    while i < count_y:
        at_y = start_y + row.to(tl.float32) * bin_y + tl.div_rn((i + 0.5) * bin_y, count_y.to(tl.float32))
        at_y = tl.minimum(tl.maximum(at_y, 0.0), bottom.to(tl.float32))
        upper = at_y.to(tl.int32)
        part_y = at_y - upper.to(tl.float32)
        above, below = upper - y, tl.minimum(upper + 1, bottom) - y
        has_above = exists & (above >= 0) & (above < height)
        has_below = exists & (below >= 0) & (below < height)
        j = 0
        while j < count_x:
            at_x = start_x + column.to(tl.float32) * bin_x + tl.div_rn((j + 0.5) * bin_x, count_x.to(tl.float32))
            at_x = tl.minimum(tl.maximum(at_x, 0.0), right.to(tl.float32))
            nearer = at_x.to(tl.int32)
            part_x = at_x - nearer.to(tl.float32)
            before, after = nearer - x, tl.minimum(nearer + 1, right) - x
            has_before, has_after = (before >= 0) & (before < width), (after >= 0) & (after < width)
            value = _bit(bits, above, before, stride, has_above & has_before) * ((1.0 - part_y) * (1.0 - part_x))
            value += _bit(bits, above, after, stride, has_above & has_after) * ((1.0 - part_y) * part_x)
            value += _bit(bits, below, before, stride, has_below & has_before) * (part_y * (1.0 - part_x))
            value += _bit(bits, below, after, stride, has_below & has_after) * (part_y * part_x)
            total += value
            j += 1
        i += 1
    tl.store(out + region * rows * columns + place, tl.div_rn(total, samples.to(tl.float32)), mask=exists)


def _bit_of(bits, row, column, stride, exists):
    """Pixels of a window as 0.0 or 1.0, 0.0 where they do not exist."""
    byte = tl.load(bits + row * stride + (column >> 3), mask=exists, other=0).to(tl.int32)
    return ((byte >> (7 - (column & 7))) & 1).to(tl.float32)


def paste(masks: Tensor, boxes: Tensor, places: Tensor, size: int, tiles: int, threshold: float) -> Tensor:
    """Masks ``(K, h, w)`` stretched over boxes ``(K, 4)`` of their images, ``(size,)`` uint8.

    Args:
        places: ``(K, 3)`` int64: where the image of each begins in the result, and its height and width.
        tiles: Tiles of the largest image.
        threshold: As in ``mmdet.models.core.masks.paste_masks``.
    """
    out = torch.empty(size, dtype=torch.uint8, device=masks.device)
    if len(masks) and tiles:
        paste_kernel[(len(masks) * tiles,)](
            masks, boxes, places, out, tiles, masks.shape[1], masks.shape[2], threshold, ROWS=TILE[0], COLUMNS=TILE[1],
            num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return out


def _paste(masks, boxes, places, out, tiles, height, width, threshold, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """One tile of one mask: zeros where it lies apart from the box."""
    index = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    out += tl.load(places + index * 3)
    rows, columns = tl.load(places + index * 3 + 1).to(tl.int32), tl.load(places + index * 3 + 2).to(tl.int32)
    across = (columns + COLUMNS - 1) // COLUMNS
    row = tile // across * ROWS + tl.arange(0, ROWS)
    column = tile % across * COLUMNS + tl.arange(0, COLUMNS)
    exists = (row < rows)[:, None] & (column < columns)[None, :]
    target = out + row.to(tl.int64)[:, None] * columns + column[None, :]
    x1, y1 = tl.load(boxes + index * 4), tl.load(boxes + index * 4 + 1)
    x2, y2 = tl.load(boxes + index * 4 + 2), tl.load(boxes + index * 4 + 3)
    first_row, first_column = tile // across * ROWS, tile % across * COLUMNS
    # A pixel next to the box still mixes the mask's border with nothing, as far as half a cell of the mask.
    reach_x, reach_y = (x2 - x1) / width + 1.0, (y2 - y1) / height + 1.0
    near = (first_column < x2 + reach_x) & (first_column + COLUMNS > x1 - reach_x) & (x2 > x1)
    near = near & (first_row < y2 + reach_y) & (first_row + ROWS > y1 - reach_y) & (y2 > y1)
    if near:
        x = ((((column + 0.5) - x1) / (x2 - x1) * 2.0 - 1.0 + 1.0) * width - 1.0) / 2.0
        y = ((((row + 0.5) - y1) / (y2 - y1) * 2.0 - 1.0 + 1.0) * height - 1.0) / 2.0
        x = tl.minimum(tl.maximum(x, -2.0), width + 1.0)
        y = tl.minimum(tl.maximum(y, -2.0), height + 1.0)
        left, top = tl.floor(x), tl.floor(y)
        part_x, part_y = (x - left)[None, :], (y - top)[:, None]
        j, i = left.to(tl.int32)[None, :], top.to(tl.int32)[:, None]
        masks += index * height * width
        value = _cell(masks, i, j, height, width) * ((1.0 - part_y) * (1.0 - part_x))
        value += _cell(masks, i, j + 1, height, width) * ((1.0 - part_y) * part_x)
        value += _cell(masks, i + 1, j, height, width) * (part_y * (1.0 - part_x))
        value += _cell(masks, i + 1, j + 1, height, width) * (part_y * part_x)
        if threshold >= 0:
            tl.store(target, (value >= threshold).to(tl.uint8), mask=exists)
        else:
            tl.store(target, (value * 255.0).to(tl.uint8), mask=exists)
    else:
        tl.store(target, tl.zeros((ROWS, COLUMNS), tl.uint8), mask=exists)


def _cell_of(mask, i, j, height, width):
    """Probabilities of a mask, 0 beyond its border."""
    return tl.load(mask + i * width + j, mask=(i >= 0) & (i < height) & (j >= 0) & (j < width), other=0.0)


_cell: Any = jit(_cell_of)
_bit: Any = jit(_bit_of)
crop_kernel: Any = jit(_crop, do_not_specialize=['rows', 'columns'])
paste_kernel: Any = jit(_paste, do_not_specialize=['tiles', 'height', 'width'])
