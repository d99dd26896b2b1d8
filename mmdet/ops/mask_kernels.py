"""The kernels that cut masks out and paste them, for GPUs. Importable without Triton, then without kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

BINS = 256


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


_bit: Any = triton.jit(_bit_of) if triton is not None else None
crop_kernel: Any = triton.jit(do_not_specialize=['rows', 'columns'])(_crop) if triton is not None else None
