"""The kernels of :func:`mmdet.ops.roi_align_levels`, for GPUs. Importable without Triton, then without kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .triton_jit import jit, tl, triton

# Channels and warps of a program, each of which has one row of up to 8 bins of one region; the fastest on an H200.
POOLING, SCATTERING = (256, 1), (128, 2)


def pool(
    feats: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    size: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """See :func:`mmdet.ops.roi_align_levels`; RoIs in single precision, the result with the channels last."""
    shape = (len(rois), feats[0].shape[1], *size)
    out = torch.empty(shape, dtype=feats[0].dtype, device=rois.device, memory_format=torch.channels_last)
    maps = [feat.contiguous(memory_format=torch.channels_last) for feat in feats]
    _launch(False, maps, rois, levels, out, scales, sampling_ratio, aligned)
    return out


def scatter(
    maps: Sequence[Tensor],
    grad: Tensor,
    rois: Tensor,
    levels: Tensor | None,
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Add gradients of regions to those of ``maps``, which are in single precision and have the channels last."""
    grad = grad.contiguous(memory_format=torch.channels_last)
    _launch(True, maps, rois, levels, grad, scales, sampling_ratio, aligned)


def _launch(
    scatters: bool,
    maps: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    regions: Tensor,
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> None:
    count, channels, rows, columns = regions.shape
    if not regions.numel() or not maps[0].numel():
        return
    program = SCATTERING if scatters else POOLING
    block, bins = min(program[0], triton.next_power_of_2(channels)), triton.next_power_of_2(columns)
    # Sides as floats: a kernel is not compiled anew for other ones.
    sides = [tuple(float(feat.shape[axis]) for feat in maps) for axis in (2, 3)]
    rois = rois.contiguous()
    kernel[(count * rows, triton.cdiv(channels, block))](
        tuple(maps), rois, rois if levels is None else levels.contiguous(), regions, channels, *sides,
        tuple(float(scale) for scale in scales), LEVELS=0 if levels is None else len(maps), ROWS=rows, COLUMNS=columns,
        RATIO=max(sampling_ratio, 0), ALIGNED=aligned, SCATTER=scatters,
        BINS=bins, BLOCK=block, num_warps=program[1] * max(1, bins // 8),
    )  # fmt: skip


def _walk(
    maps,
    rois,
    levels,
    regions,
    channels,
    heights,
    widths,
    scales,
    LEVELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    RATIO: tl.constexpr,
    ALIGNED: tl.constexpr,
    BINS: tl.constexpr,
    BLOCK: tl.constexpr,
    SCATTER: tl.constexpr,
):
    """One row of bins: each cell of the map is read once for each bin that it counts in.

    ``SCATTER`` is the transpose: the gradient of the bins is added to the cells that they were read from.
    """
    region, row = tl.program_id(0) // ROWS, tl.program_id(0) % ROWS
    base, height, width, scale, exists = _level(maps, levels, region, heights, widths, scales, LEVELS)
    y, bin_y, count_y, taps_y = _axis(rois, region, 2, scale, height, exists, ROWS, RATIO, ALIGNED)
    x, bin_x, count_x, taps_x = _axis(rois, region, 1, scale, width, exists, COLUMNS, RATIO, ALIGNED)
    column = tl.arange(0, BINS)
    y, x = y + row * bin_y, x + column * bin_x
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    base = _image(base, rois, region, channels, height, width) + channel[None, :]
    step_y = width.to(tl.int32) * channels
    inside = (column < COLUMNS)[:, None] & (channel < channels)[None, :]
    if SCATTER:
        bins = _bins(regions, region, row, column, channel, channels, ROWS, COLUMNS)
        total = tl.load(bins, mask=inside, other=0.0).to(tl.float32) / tl.maximum(count_y * count_x, 1.0)
    else:
        total = tl.zeros((BINS, BLOCK), tl.float32)
    for i in range(taps_x):
        cell_x, weight_x = _tap(x, bin_x, count_x, width, i, RATIO)
        place = base + (cell_x * channels)[:, None]
        used = inside & (weight_x != 0.0)[:, None]
        if SCATTER:
            part = total * weight_x[:, None]
        else:
            part = tl.zeros((BINS, BLOCK), tl.float32)
        for j in range(taps_y):
            cell_y, weight_y = _tap(y, bin_y, count_y, height, j, RATIO)
            if weight_y != 0.0:
                if SCATTER:
                    tl.atomic_add(place + cell_y * step_y, part * weight_y, mask=used, sem='relaxed')
                else:
                    part += tl.load(place + cell_y * step_y, mask=used, other=0.0).to(tl.float32) * weight_y
        if not SCATTER:
            total += part * weight_x[:, None]
    if not SCATTER:
        total = total / tl.maximum(count_y * count_x, 1.0)
        bins = _bins(regions, region, row, column, channel, channels, ROWS, COLUMNS)
        tl.store(bins, total.to(regions.dtype.element_ty), mask=inside)


def _level_of(maps, levels, region, heights, widths, scales, LEVELS: tl.constexpr):
    """Map of a region with its height, width and scale, and whether there is such a level."""
    base, height, width, scale = maps[0], heights[0], widths[0], scales[0]
    exists = True
    if LEVELS > 0:
        level = tl.load(levels + region)
        exists = (level >= 0) & (level < LEVELS)
        for i in tl.static_range(1, LEVELS):
            base = tl.where(level == i, maps[i], base)
            height = tl.where(level == i, heights[i], height)
            width = tl.where(level == i, widths[i], width)
            scale = tl.where(level == i, scales[i], scale)
    return base, height, width, scale, exists


def _axis_of(rois, region, column, scale, side, exists, BINS: tl.constexpr, RATIO: tl.constexpr, ALIGNED: tl.constexpr):
    """Along one axis, in cells: where a region begins, its bins, their samples and the cells that these reach."""
    low, high = tl.load(rois + region * 5 + column) * scale, tl.load(rois + region * 5 + column + 2) * scale
    if ALIGNED:
        low, high = low - 0.5, high - 0.5
        extent = high - low
    else:
        extent = tl.maximum(high - low, 1.0)
    bin = extent / BINS
    if RATIO > 0:
        count = RATIO * 1.0
        taps = tl.where(exists, 2 * RATIO, 0)
    else:
        count = tl.ceil(bin)
        taps = tl.where(exists & (count > 0.0), tl.minimum(count, side - 1.0) + 1.0, 0.0).to(tl.int32)
    return low, bin, count, taps


def _tap_of(start, bin, count, side, number, RATIO: tl.constexpr):
    """The cell of one of the taps of bins that begin at ``start``, and its weight, a sum over samples.

    Further out than a cell there is nothing, nearer the border is repeated. With as many samples as a bin has cells,
    those are at most a cell apart, so that the cells that they reach follow one another.
    """
    if RATIO > 0:
        at = start + (number // 2 + 0.5) * bin / RATIO
        near = tl.minimum(tl.maximum(at, 0.0), side - 1.0)
        cell = tl.floor(near)
        part = near - cell
        weight = tl.where(number % 2 == 1, part, 1.0 - part)
        weight = tl.where((at >= -1.0) & (at <= side), weight, 0.0)
        cell = tl.minimum(cell + number % 2, side - 1.0)
    else:
        step, each = bin / count, count / bin
        skipped = tl.maximum(tl.floor((-1.0 - start) * each - 0.5), 0.0)  # samples that lie too far out
        at = start + (skipped + 0.5) * step
        cell = tl.floor(tl.minimum(tl.maximum(at, 0.0), side - 1.0)) + number
        weight = at * 0.0
        # of many samples those that may be near enough, at this border and at the other one
        first = tl.minimum(tl.maximum(tl.floor((number - 2.0) * each), 0.0), count).to(tl.int32)
        last = tl.minimum(tl.ceil((number + 3.0) * each) + 2.0, count).to(tl.int32)
        for k in range(first, last):
            at = start + (skipped + k + 0.5) * step
            near = 1.0 - tl.abs(tl.minimum(tl.maximum(at, 0.0), side - 1.0) - cell)
            real = (at >= -1.0) & (at <= side) & (skipped + k < count)
            weight += tl.where(real, tl.maximum(near, 0.0), 0.0)
        weight = tl.where(cell < side, weight, 0.0)
        cell = tl.minimum(cell, side - 1.0)
    return cell.to(tl.int32), weight


def _image_of(base, rois, region, channels, height, width):
    """Where the picture of a region begins in its map."""
    image = tl.load(rois + region * 5).to(tl.int64)
    return base + image * channels * (height.to(tl.int32) * width.to(tl.int32))


def _bins_of(regions, region, row, column, channel, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Where a row of bins lies: ``(COLUMNS, channels)``."""
    base = regions + region.to(tl.int64) * channels * (ROWS * COLUMNS)
    return base + ((row * COLUMNS + column) * channels)[:, None] + channel[None, :]


_level: Any = jit(_level_of)
_axis: Any = jit(_axis_of)
_tap: Any = jit(_tap_of)
_image: Any = jit(_image_of)
_bins: Any = jit(_bins_of)
kernel: Any = jit(_walk)
