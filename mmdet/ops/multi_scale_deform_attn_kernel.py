"""The kernels of :func:`mmdet.ops.multi_scale_deform_attn.deformable_sums`, for GPUs. Without Triton there are none.

Letters: B images, S cells of all levels, H heads, D channels of a head, Q queries, P points of all levels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .triton_jit import jit, tl, triton

# Elements of a program's tile, which is as many queries as that allows by the channels of a head; points whose corners
# are asked for before the first is used. Of four elements a thread, the backward pass reads, adds up and writes alike.
FORWARD: dict = dict(elements=1024, unroll=2, warps=4)
BACKWARD: dict = dict(elements=512, unroll=1, warps=4)


def launch(
    value: Tensor, locations: Tensor, weights: Tensor, sizes: Sequence[int], points: Sequence[int], nearest: bool
) -> Tensor:
    """``(B, Q, H * D)`` in the type of ``value``; nothing of the size of all samples is stored.

    Args:
        value: ``(B, S, H, D)``.
        locations: ``(B, Q, H, P, 2)`` x and y relative to the level.
        weights: ``(B, Q, H, P)``.
        sizes: Height and width of each level in turn.
        points: How many of P each level has.
        nearest: As in :func:`mmdet.ops.multi_scale_deform_attn.sampled_sums`.
    """
    out = value.new_empty(*locations.shape[:2], value.shape[2] * value.shape[3])
    _launch(forward_kernel, value, locations, weights, (out,), sizes, points, nearest, FORWARD)
    return out


def launch_backward(
    grad: Tensor,
    value: Tensor,
    locations: Tensor,
    weights: Tensor,
    sizes: Sequence[int],
    points: Sequence[int],
    nearest: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the values, the locations and the weights, each in its type; those of the values are summed in
    single precision, in no order. Nearest cells have none of the locations, ``(0,)``."""
    grad_value = torch.zeros(value.shape, dtype=torch.float32, device=value.device)
    grad_locations = locations.new_empty(0 if nearest else locations.shape)
    grad_weights = weights.new_empty(weights.shape)
    grads = grad.contiguous(), grad_value, grad_locations, grad_weights
    _launch(backward_kernel, value, locations, weights, grads, sizes, points, nearest, BACKWARD)
    return grad_value.to(value.dtype), grad_locations, grad_weights


def _launch(
    kernel: Any,
    value: Tensor,
    locations: Tensor,
    weights: Tensor,
    others: tuple[Tensor, ...],
    sizes: Sequence[int],
    points: Sequence[int],
    nearest: bool,
    choice: dict,
) -> None:
    batch, cells, heads, channels = value.shape
    queries, total = locations.shape[1], locations.shape[3]
    if not batch * queries * heads * channels:
        return
    width = triton.next_power_of_2(channels)
    block = max(choice['elements'] // width, 1)
    table = _table(tuple(sizes), tuple(points), value.device)
    with torch.cuda.device_of(value):  # Triton launches where the thread is
        kernel[(heads * triton.cdiv(queries, block), batch)](
            value.contiguous(), locations.contiguous(), weights.contiguous(), table, *others, cells, queries,
            HEADS=heads, POINTS=total, CHANNELS=channels, WIDTH=width, BLOCK=block, NEAREST=nearest,
            UNROLL=choice['unroll'], num_warps=choice['warps'],
        )  # fmt: skip


@functools.lru_cache(maxsize=256)
def _table(sizes: tuple[int, ...], points: tuple[int, ...], device: torch.device) -> Tensor:
    """``(P, 3)`` height, width and first cell of the level of each point."""
    rows, start = [], 0
    for height, width, count in zip(sizes[::2], sizes[1::2], points):
        rows += [(height, width, start)] * count
        start += height * width
    table = torch.tensor(rows, dtype=torch.int32)
    return table if device.type == 'cpu' else table.pin_memory().to(device, non_blocking=True)


def _place_of(table, locations, weights, row, point, exists, POINTS: tl.constexpr):
    """Size and first cell of the level of a point; for each query the point's place in cells and its weight."""
    height = tl.load(table + point * 3)
    width = tl.load(table + point * 3 + 1)
    start = tl.load(table + point * 3 + 2)
    place = row * POINTS + point
    x = tl.load(locations + place * 2, mask=exists, other=0.0).to(tl.float32) * width.to(tl.float32)
    y = tl.load(locations + place * 2 + 1, mask=exists, other=0.0).to(tl.float32) * height.to(tl.float32)
    weight = tl.load(weights + place, mask=exists, other=0.0).to(tl.float32)
    return height, width, start, place, x, y, weight


def _nearest_of(x, y, height, width, start):
    """The cells that hold places, or the ones at the border beyond which they lie."""
    x = tl.minimum(tl.maximum(x + 0.5, 0.0), (width - 1).to(tl.float32)).to(tl.int32)
    y = tl.minimum(tl.maximum(y + 0.5, 0.0), (height - 1).to(tl.float32)).to(tl.int32)
    return start + y * width + x


def _corners_of(x, y, height, width, start, exists):
    """The cell before and above each place, its distance from there, and which of the columns and rows exist."""
    # Places far away are drawn nearer, so that their cells are numbers; what is no number stays so.
    last_x, last_y = width.to(tl.float32) + 1.0, height.to(tl.float32) + 1.0
    x, y = x - 0.5, y - 0.5
    x = tl.where(x < -2.0, -2.0, tl.where(x > last_x, last_x, x))
    y = tl.where(y < -2.0, -2.0, tl.where(y > last_y, last_y, y))
    left, top = tl.floor(x), tl.floor(y)
    i, j = top.to(tl.int32), left.to(tl.int32)
    before, after = exists & (j >= 0) & (j < width), exists & (j >= -1) & (j < width - 1)
    above, below = (i >= 0) & (i < height), (i >= -1) & (i < height - 1)
    return start + i * width + j, x - left, y - top, before, after, above, below


def _offset_of(cell, exists, ROW: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """Where the channels of cells lie, and which of them exist."""
    channel = tl.arange(0, WIDTH)
    exists = exists[:, None]
    if CHANNELS != WIDTH:
        exists = exists & (channel < CHANNELS)[None, :]
    return (cell * ROW)[:, None] + channel[None, :], exists


def _channels_of(value, cell, exists, ROW: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """The channels of cells, zeros where a cell does not exist."""
    offset, exists = _offset(cell, exists, ROW, CHANNELS, WIDTH)
    return tl.load(value + offset, mask=exists, other=0.0).to(tl.float32)


def _add_to(grad, cell, exists, amount, ROW: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """Add to the channels of cells what other programs may be adding to as well."""
    offset, exists = _offset(cell, exists, ROW, CHANNELS, WIDTH)
    tl.atomic_add(grad + offset, amount, mask=exists, sem='relaxed')


def _forward(
    value,
    locations,
    weights,
    table,
    out,
    cells,
    queries,
    HEADS: tl.constexpr,
    POINTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    NEAREST: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Some queries of one head of one image."""
    ROW: tl.constexpr = HEADS * CHANNELS
    image = tl.program_id(1).to(tl.int64)
    # Programs that follow one another have the same queries and other heads, whose channels lie next to one another.
    head = tl.program_id(0) % HEADS
    query = tl.program_id(0) // HEADS * BLOCK + tl.arange(0, BLOCK)
    exists = query < queries
    row = query * HEADS + head
    value += image * cells * ROW + head * CHANNELS
    locations += image * queries * (HEADS * POINTS * 2)
    weights += image * queries * (HEADS * POINTS)
    out += image * queries * ROW
    total = tl.zeros((BLOCK, WIDTH), tl.float32)
    for point in tl.range(0, POINTS, loop_unroll_factor=UNROLL):
        height, width, start, _, x, y, weight = _place(table, locations, weights, row, point, exists, POINTS)
        if NEAREST:
            cell = _nearest(x, y, height, width, start)
            total += _channels(value, cell, exists, ROW, CHANNELS, WIDTH) * weight[:, None]
        else:
            cell, part_x, part_y, before, after, above, below = _corners(x, y, height, width, start, exists)
            upper, lower = weight * (1.0 - part_y), weight * part_y
            upper_left = _channels(value, cell, above & before, ROW, CHANNELS, WIDTH)
            upper_right = _channels(value, cell + 1, above & after, ROW, CHANNELS, WIDTH)
            lower_left = _channels(value, cell + width, below & before, ROW, CHANNELS, WIDTH)
            lower_right = _channels(value, cell + width + 1, below & after, ROW, CHANNELS, WIDTH)
            total += upper_left * (upper * (1.0 - part_x))[:, None]
            total += upper_right * (upper * part_x)[:, None]
            total += lower_left * (lower * (1.0 - part_x))[:, None]
            total += lower_right * (lower * part_x)[:, None]
    offset, stored = _offset(row, exists, CHANNELS, CHANNELS, WIDTH)
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=stored)


def _backward(
    value,
    locations,
    weights,
    table,
    grad,
    grad_value,
    grad_locations,
    grad_weights,
    cells,
    queries,
    HEADS: tl.constexpr,
    POINTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    NEAREST: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Some queries of one head of one image; what a point needs are the products of the gradient with its corners."""
    ROW: tl.constexpr = HEADS * CHANNELS
    image = tl.program_id(1).to(tl.int64)
    head = tl.program_id(0) % HEADS
    query = tl.program_id(0) // HEADS * BLOCK + tl.arange(0, BLOCK)
    exists = query < queries
    row = query * HEADS + head
    shift = image * cells * ROW + head * CHANNELS
    value += shift
    grad_value += shift
    locations += image * queries * (HEADS * POINTS * 2)
    grad_locations += image * queries * (HEADS * POINTS * 2)
    weights += image * queries * (HEADS * POINTS)
    grad_weights += image * queries * (HEADS * POINTS)
    slope = _channels(grad + image * queries * ROW, row, exists, CHANNELS, CHANNELS, WIDTH)
    for point in tl.range(0, POINTS, loop_unroll_factor=UNROLL):
        height, width, start, place, x, y, weight = _place(table, locations, weights, row, point, exists, POINTS)
        scaled = slope * weight[:, None]
        if NEAREST:
            cell = _nearest(x, y, height, width, start)
            seen = tl.sum(_channels(value, cell, exists, ROW, CHANNELS, WIDTH) * slope, 1)
            _add(grad_value, cell, exists, scaled, ROW, CHANNELS, WIDTH)
        else:
            cell, part_x, part_y, before, after, above, below = _corners(x, y, height, width, start, exists)
            upper_left = tl.sum(_channels(value, cell, above & before, ROW, CHANNELS, WIDTH) * slope, 1)
            upper_right = tl.sum(_channels(value, cell + 1, above & after, ROW, CHANNELS, WIDTH) * slope, 1)
            lower_left = tl.sum(_channels(value, cell + width, below & before, ROW, CHANNELS, WIDTH) * slope, 1)
            lower_right = tl.sum(_channels(value, cell + width + 1, below & after, ROW, CHANNELS, WIDTH) * slope, 1)
            rest_x, rest_y = 1.0 - part_x, 1.0 - part_y
            seen = rest_y * (rest_x * upper_left + part_x * upper_right)
            seen += part_y * (rest_x * lower_left + part_x * lower_right)
            grad_x = rest_y * (upper_right - upper_left) + part_y * (lower_right - lower_left)
            grad_y = rest_x * (lower_left - upper_left) + part_x * (lower_right - upper_right)
            grad_x, grad_y = grad_x * weight * width.to(tl.float32), grad_y * weight * height.to(tl.float32)
            kind = grad_locations.dtype.element_ty
            tl.store(grad_locations + place * 2, grad_x.to(kind), mask=exists)
            tl.store(grad_locations + place * 2 + 1, grad_y.to(kind), mask=exists)
            _add(grad_value, cell, above & before, scaled * (rest_y * rest_x)[:, None], ROW, CHANNELS, WIDTH)
            _add(grad_value, cell + 1, above & after, scaled * (rest_y * part_x)[:, None], ROW, CHANNELS, WIDTH)
            _add(grad_value, cell + width, below & before, scaled * (part_y * rest_x)[:, None], ROW, CHANNELS, WIDTH)
            _add(grad_value, cell + width + 1, below & after, scaled * (part_y * part_x)[:, None], ROW, CHANNELS, WIDTH)
        tl.store(grad_weights + place, seen.to(grad_weights.dtype.element_ty), mask=exists)


_place, _nearest, _corners = jit(_place_of), jit(_nearest_of), jit(_corners_of)
_offset, _channels, _add = jit(_offset_of), jit(_channels_of), jit(_add_to)
# One compilation for all sizes of images.
forward_kernel: Any = jit(_forward, do_not_specialize=['cells', 'queries'])
backward_kernel: Any = jit(_backward, do_not_specialize=['cells', 'queries'])
