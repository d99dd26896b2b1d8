"""Non-maximum suppression of a whole batch at once, with results of a fixed size. The host waits for nothing.

Letters: B images, K candidates, M results.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .compiled import has_triton
from .fixed_size import is_at_hand
from .nms import apart, full_precision

# Candidates that are settled together where no kernel does it.
BLOCK = 256


def padded_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    valid: Tensor | None,
    iou_threshold: float,
    max_num: int = -1,
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Greedy suppression within each group of each image: the boxes that :func:`mmdet.ops.batched_nms` keeps.

    Of equal scores the one of the lower index comes first, on every device.

    Args:
        boxes: ``(B, K, 4)`` xyxy.
        scores: ``(B, K)``.
        groups: ``(B, K)`` class or level; boxes of different groups do not meet. None for one group.
        valid: ``(B, K)`` bool, the candidates that take part. None for all.
        iou_threshold: Boxes that overlap a kept one by more are dropped.
        max_num: M; K if not positive or greater.
        offset: 1 if ``x2`` is the last column inside a box, 0 if it is the edge.

    Returns:
        Indices ``(B, M)`` of the kept boxes, best first, and their number ``(B,)``. Places beyond it hold some index
        below K.
    """
    batch, num = scores.shape
    limit = min(max_num, num) if max_num > 0 else num
    boxes, scores = full_precision(boxes.detach()), full_precision(scores.detach())
    if offset:
        boxes = torch.cat([boxes[..., :2], boxes[..., 2:] + offset], -1)
    if batch == 0 or num == 0:
        return boxes.new_zeros(batch, limit, dtype=torch.long), boxes.new_zeros(batch, dtype=torch.long)
    if is_at_hand(boxes):
        return _one_by_one(boxes, scores, groups, valid, iou_threshold, limit)
    if valid is None:
        sizes = torch.full((batch,), num, dtype=torch.int32, device=boxes.device)
    else:
        sizes, scores = valid.sum(1, dtype=torch.int32), scores.masked_fill(~valid, -torch.inf)
    order = scores.sort(dim=1, descending=True, stable=True).indices
    groups = torch.zeros_like(order) if groups is None else groups.gather(1, order)
    boxes = boxes.float().gather(1, order[..., None].expand(-1, -1, 4))
    places, counts = greedy_nms(boxes, groups.int(), sizes, float_below(iou_threshold), limit)
    return order.gather(1, places), counts


def float_below(threshold: float) -> float:
    """The greatest single-precision number that is not above ``threshold``, so that a kernel compares as the CPU does,
    which holds the threshold in double precision."""
    single = np.float32(threshold)
    return float(np.nextafter(single, np.float32(-np.inf)) if float(single) > threshold else single)


def _one_by_one(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, valid: Tensor | None, threshold: float, limit: int
) -> tuple[Tensor, Tensor]:
    """The same by torchvision's kernel, image by image."""
    from torchvision.ops import nms

    index = boxes.new_zeros(len(boxes), limit, dtype=torch.long)
    counts = []
    for b, row in enumerate(index):
        taken = torch.arange(boxes.shape[1]) if valid is None else valid[b].nonzero()[:, 0]
        corners, score = boxes[b][taken], scores[b][taken]
        if groups is not None:
            corners = apart(corners, groups[b][taken])
        kept = nms(corners, score.to(corners.dtype), float(threshold))[:limit]
        row[: len(kept)] = taken[kept]
        counts.append(len(kept))
    return index, torch.tensor(counts)


@torch.library.custom_op(
    'mmdet::greedy_nms',
    mutates_args=(),
    schema='(Tensor boxes, Tensor groups, Tensor sizes, float threshold, int limit) -> (Tensor, Tensor)',
)
def greedy_nms(boxes: Tensor, groups: Tensor, sizes: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    """Greedy suppression of candidates that are in order already.

    Args:
        boxes: ``(B, K, 4)`` in single precision, the best first.
        groups: ``(B, K)`` of 32 bits.
        sizes: ``(B,)``: the first so many of K are candidates.

    Returns:
        Places ``(B, limit)`` of the kept ones, 0 beyond their number, and the number ``(B,)``.
    """
    if boxes.is_cuda and has_triton():
        from .padded_nms_kernel import launch

        return launch(boxes, groups, sizes, threshold, limit)
    return _greedy_by_blocks(boxes, groups, sizes, threshold, limit)


@greedy_nms.register_fake
def _(boxes: Tensor, groups: Tensor, sizes: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    places = boxes.new_empty(boxes.shape[0], limit, dtype=torch.long)
    return places, boxes.new_empty(boxes.shape[0], dtype=torch.long)


def _greedy_by_blocks(
    boxes: Tensor, groups: Tensor, sizes: Tensor, threshold: float, limit: int
) -> tuple[Tensor, Tensor]:
    """:func:`greedy_nms` where there is no kernel. The host looks once for each link of the longest chain of boxes of
    which each one suppresses the next."""
    alive = torch.arange(boxes.shape[1], device=boxes.device) < sizes[:, None]
    for start in range(0, boxes.shape[1], BLOCK):
        block, rest = slice(start, start + BLOCK), slice(start + BLOCK, None)
        overlaps = _overlap(boxes[:, block], groups[:, block], boxes[:, block], groups[:, block], threshold)
        kept = unbeaten(overlaps, alive[:, block])
        overlaps = _overlap(boxes[:, block], groups[:, block], boxes[:, rest], groups[:, rest], threshold)
        alive = torch.cat([alive[:, :start], kept, alive[:, rest] & ~(overlaps & kept[..., None]).any(1)], 1)
    rank = alive.cumsum(1) - 1
    slot = torch.where(alive & (rank < limit), rank, limit)
    places = torch.arange(boxes.shape[1], device=boxes.device).expand_as(slot)
    kept_places = torch.zeros(len(boxes), limit + 1, dtype=torch.long, device=boxes.device).scatter(1, slot, places)
    return kept_places[:, :limit].contiguous(), alive.sum(1).clamp(max=limit)


def unbeaten(beats: Tensor, alive: Tensor) -> Tensor:
    """``(B, n)`` bool: which of the ``alive (B, n)`` no kept one before them ``beats (B, n, n)``.

    The host looks once for each link of the longest chain.
    """
    beats, kept = beats.triu(1), alive
    while True:
        settled = alive & ~(beats & kept[..., None]).any(1)
        if torch.equal(settled, kept):
            return kept
        kept = settled


def _overlap(boxes: Tensor, groups: Tensor, others: Tensor, other_groups: Tensor, threshold: float) -> Tensor:
    """``(B, n, m)`` bool: whether the overlap exceeds ``threshold`` within a group."""
    x1, y1, x2, y2 = boxes[:, :, None].unbind(-1)
    u1, v1, u2, v2 = others[:, None].unbind(-1)
    width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
    shared = (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0) * width
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    return (shared / union > threshold) & (groups[:, :, None] == other_groups[:, None])
