"""The kernels of :func:`mmdet.ops.match_boxes`, for GPUs. Importable without Triton, then without kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .triton_jit import jit, tl, triton

# Priors of a program.
BLOCK, WARPS = 1024, 4


def launch(
    priors: Tensor, usable: Tensor, boxes: Tensor, mask: Tensor, min_overlap: float, claims: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`mmdet.ops.match_boxes`."""
    batch, num = usable.shape
    score = torch.empty(batch, num, dtype=torch.float32, device=usable.device)
    index = torch.empty(batch, num, dtype=torch.int32, device=usable.device)
    claimed = torch.zeros_like(index)
    # The highest overlap of each box, as the bits of a float at least 0, which are in the order of the floats.
    tops = torch.zeros(boxes.shape[:2], dtype=torch.int32, device=usable.device)
    if not score.numel():
        return score, index, claimed
    stride = 0 if len(priors) == 1 else num * 4
    data = priors.contiguous(), usable.to(torch.int8), boxes.contiguous(), mask.to(torch.int8), tops
    sizes = num, boxes.shape[1], stride
    grid = triton.cdiv(num, BLOCK), batch
    # Products that are rounded before they are added, as elsewhere: the same boxes overlap by the same amount.
    options = dict(BLOCK=BLOCK, num_warps=WARPS, enable_fp_fusion=False)
    match_kernel[grid](*data, score, index, *sizes, **options)
    if claims:
        claim_kernel[grid](*data, claimed, *sizes, min_overlap, **options)
    return score, index, claimed


def _match(priors, usable, boxes, mask, tops, score, index, num, count, stride, BLOCK: tl.constexpr):
    """Some priors of one image: the box that each overlaps most, and the highest overlap of each box."""
    image = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = place < num
    x1, y1, x2, y2 = _corners(priors + image * stride, place, exists)
    taken = tl.load(usable + image * num + place, mask=exists, other=0) != 0
    best = tl.full((BLOCK,), -1.0, tl.float32)
    chosen = tl.zeros((BLOCK,), tl.int32)
    for i in range(count):
        row = image * count + i
        overlap = _overlap(boxes + row * 4, tl.load(mask + row), x1, y1, x2, y2)
        chosen = tl.where(overlap > best, i, chosen)
        best = tl.maximum(best, overlap)
        top = tl.max(tl.where(taken, overlap, 0.0), 0)
        if top > 0.0:
            tl.atomic_max(tops + row, top.to(tl.int32, bitcast=True), sem='relaxed')
    tl.store(score + image * num + place, best, mask=exists)
    tl.store(index + image * num + place, chosen, mask=exists)


def _claim(priors, usable, boxes, mask, tops, claimed, num, count, stride, min_overlap, BLOCK: tl.constexpr):
    """Some priors of one image: the last box, counted from 1, of which each is the best prior."""
    image = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = place < num
    x1, y1, x2, y2 = _corners(priors + image * stride, place, exists)
    taken = tl.load(usable + image * num + place, mask=exists, other=0) != 0
    last = tl.zeros((BLOCK,), tl.int32)
    for i in range(count):
        row = image * count + i
        top = tl.load(tops + row).to(tl.float32, bitcast=True)
        if (top > 0.0) & (top >= min_overlap):
            overlap = _overlap(boxes + row * 4, tl.load(mask + row), x1, y1, x2, y2)
            last = tl.where(taken & (overlap == top), i + 1, last)
    tl.store(claimed + image * num + place, last, mask=exists)


def _corners_of(priors, place, exists):
    x1 = tl.load(priors + place * 4, mask=exists, other=0.0)
    y1 = tl.load(priors + place * 4 + 1, mask=exists, other=0.0)
    x2 = tl.load(priors + place * 4 + 2, mask=exists, other=0.0)
    y2 = tl.load(priors + place * 4 + 3, mask=exists, other=0.0)
    return x1, y1, x2, y2


def _overlap_of(box, real, x1, y1, x2, y2):
    """As ``mmdet.structures.bbox.bbox_overlaps`` computes it; 0 with a box that only pads."""
    u1, v1, u2, v2 = tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3)
    width = tl.maximum(tl.minimum(u2, x2) - tl.maximum(u1, x1), 0.0)
    shared = width * tl.maximum(tl.minimum(v2, y2) - tl.maximum(v1, y1), 0.0)
    union = tl.maximum((u2 - u1) * (v2 - v1) + (x2 - x1) * (y2 - y1) - shared, 1e-6)
    return tl.where(real != 0, tl.div_rn(shared, union), 0.0)


_corners: Any = jit(_corners_of)
_overlap: Any = jit(_overlap_of)
match_kernel: Any = jit(_match, do_not_specialize=['num', 'count', 'stride'])
claim_kernel: Any = jit(_claim, do_not_specialize=['num', 'count', 'stride'])
