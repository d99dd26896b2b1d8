"""The kernel of :func:`mmdet.ops.padded_nms`, for GPUs. Importable without Triton, then without a kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .triton_jit import jit, tl

# Candidates that a program settles at once, and kept boxes that it compares them with at once.
BLOCK, CHUNK, WARPS = 64, 128, 8


def launch(boxes: Tensor, groups: Tensor, sizes: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    """See :func:`mmdet.ops.padded_nms.greedy_nms`."""
    batch, num = groups.shape
    places = torch.zeros(batch, limit, dtype=torch.long, device=boxes.device)
    counts = torch.empty(batch, dtype=torch.long, device=boxes.device)
    kept_boxes, kept_groups = boxes.new_empty(batch, 4, limit), groups.new_empty(batch, limit)
    # Products that are rounded before they are added, as on the CPU: the same boxes overlap by the same amount.
    kernel[(batch,)](
        boxes.contiguous(), groups.contiguous(), sizes, places, counts, kept_boxes, kept_groups, num, limit, threshold,
        BLOCK=BLOCK, CHUNK=CHUNK, num_warps=WARPS, enable_fp_fusion=False,
    )  # fmt: skip
    return places, counts


def _greedy(
    boxes,
    groups,
    sizes,
    places,
    counts,
    kept_boxes,
    kept_groups,
    num,
    limit,
    threshold,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """One image: blocks of candidates in order, each compared with all boxes kept so far, then within itself.

    Stops at ``limit`` kept boxes. Nothing larger than these is stored.
    """
    image = tl.program_id(0).to(tl.int64)
    boxes += image * num * 4
    groups += image * num
    places += image * limit
    kept_boxes += image * limit * 4
    kept_groups += image * limit
    size = tl.load(sizes + image)
    lane = tl.arange(0, BLOCK)
    start = 0
    count = 0
    while (start < size) & (count < limit):
        place = start + lane
        exists = place < size
        x1 = tl.load(boxes + place * 4, mask=exists, other=0.0)
        y1 = tl.load(boxes + place * 4 + 1, mask=exists, other=0.0)
        x2 = tl.load(boxes + place * 4 + 2, mask=exists, other=0.0)
        y2 = tl.load(boxes + place * 4 + 3, mask=exists, other=0.0)
        group = tl.load(groups + place, mask=exists, other=0)
        area = (x2 - x1) * (y2 - y1)

        beaten = tl.zeros((CHUNK, BLOCK), tl.int32)
        first = 0
        while first < count:
            row = first + tl.arange(0, CHUNK)
            real = row < count
            u1 = tl.load(kept_boxes + row, mask=real, other=0.0)[:, None]
            v1 = tl.load(kept_boxes + limit + row, mask=real, other=0.0)[:, None]
            u2 = tl.load(kept_boxes + limit * 2 + row, mask=real, other=0.0)[:, None]
            v2 = tl.load(kept_boxes + limit * 3 + row, mask=real, other=0.0)[:, None]
            kind = tl.load(kept_groups + row, mask=real, other=0)[:, None]
            width = tl.maximum(tl.minimum(x2[None, :], u2) - tl.maximum(x1[None, :], u1), 0.0)
            shared = tl.maximum(tl.minimum(y2[None, :], v2) - tl.maximum(y1[None, :], v1), 0.0) * width
            union = (u2 - u1) * (v2 - v1) + area[None, :] - shared
            hit = (tl.div_rn(shared, union) > threshold) & (kind == group[None, :]) & real[:, None]
            beaten |= hit.to(tl.int32)
            first += CHUNK
        unbeaten = exists & (tl.max(beaten, 0) == 0)

        width = tl.maximum(tl.minimum(x2[None, :], x2[:, None]) - tl.maximum(x1[None, :], x1[:, None]), 0.0)
        shared = tl.maximum(tl.minimum(y2[None, :], y2[:, None]) - tl.maximum(y1[None, :], y1[:, None]), 0.0) * width
        union = area[:, None] + area[None, :] - shared
        hit = (tl.div_rn(shared, union) > threshold) & (group[:, None] == group[None, :])
        hit = hit & (lane[:, None] < lane[None, :])
        # What no kept box before it hits is kept: settled once a round changes nothing, the first in the first round.
        kept = unbeaten.to(tl.int32)
        changed = 1
        while changed > 0:
            settled = unbeaten.to(tl.int32) * (1 - tl.max(hit.to(tl.int32) * kept[:, None], 0))
            changed = tl.sum(tl.abs(settled - kept), 0)
            kept = settled

        slot = count + tl.cumsum(kept, 0) - 1
        stored = (kept > 0) & (slot < limit)
        tl.store(places + slot, place.to(tl.int64), mask=stored)
        tl.store(kept_boxes + slot, x1, mask=stored)
        tl.store(kept_boxes + limit + slot, y1, mask=stored)
        tl.store(kept_boxes + limit * 2 + slot, x2, mask=stored)
        tl.store(kept_boxes + limit * 3 + slot, y2, mask=stored)
        tl.store(kept_groups + slot, group, mask=stored)
        tl.debug_barrier()  # the next block reads what other threads have written
        count = tl.minimum(count + tl.sum(kept, 0), limit)
        start += BLOCK
    tl.store(counts + image, count.to(tl.int64))  # type: ignore[attr-defined]


# One compilation for all sizes.
kernel: Any = jit(_greedy, do_not_specialize=['num', 'limit'])
