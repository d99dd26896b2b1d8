"""Sides of boxes as distributions over distances, refined layer by layer (D-FINE, arXiv:2410.13842, Sec. 4.1).

Letters: N boxes of any leading shape, R bins, which are R + 1 places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.structures.bbox import bbox_cxcywh_to_xyxy


def bin_places(num_bins: int, up: float, scale: float) -> Tensor:
    """``(R + 1,)`` the weighting function W(n) (Eq. 2): places close together around 0, far apart at the ends.

    Args:
        up, scale: The constants a and 1 / c: the last place but one is below ``up * scale``, the last is twice that.
    """
    end = abs(up) * abs(scale)
    step = (end + 1) ** (2 / (num_bins - 2))
    positive = [step**i - 1 for i in range(1, num_bins // 2)]
    return torch.tensor([-2 * end, *(-value for value in reversed(positive)), 0.0, *positive, 2 * end])


def sides_of_distributions(logits: Tensor, places: Tensor) -> Tensor:
    """``(N, 4)`` expected distances of left, top, right, bottom, of ``(N, 4 * (R + 1))``."""
    return logits.unflatten(-1, (4, -1)).softmax(-1) @ places


def moved_sides(boxes: Tensor, distances: Tensor, scale: float) -> Tensor:
    """``(N, 4)`` cx, cy, w, h of boxes alike, whose sides lie ``distances (N, 4)`` further out (Eq. 1).

    A distance of ``scale`` is the width or height of the box.
    """
    center, size = boxes.split(2, -1)
    start, end = distances.split(2, -1)
    step = size / abs(scale)
    return torch.cat([center + (end - start) * step / 2, (start + end + abs(scale)) * step], -1)


def side_targets(boxes: Tensor, truth: Tensor, places: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """``(N, 4)`` the bin, by its left place, in which each side should lie, and how far right in it, 0 to 1 (Eq. 4).

    Args:
        boxes: ``(N, 4)`` cx, cy, w, h, from which distances are measured.
        truth: ``(N, 4)`` alike.
    """
    center, size = boxes[..., :2], boxes[..., 2:]
    corners = bbox_cxcywh_to_xyxy(truth)
    step = size / abs(scale) + 1e-16
    apart = torch.cat([(center - corners[..., :2]) / step, (corners[..., 2:] - center) / step], -1) - 0.5 * abs(scale)
    left = torch.bucketize(apart, places, right=True) - 1
    inside = left.clamp(0, len(places) - 2)
    low, high = places[inside], places[inside + 1]
    part = (apart - low) / (high - low)
    return inside, part.clamp(0, 1)


def side_entropy(logits: Tensor, bins: Tensor, parts: Tensor) -> Tensor:
    """``(N, 4)`` cross entropy of distributions ``(N, 4, R + 1)`` with the two places around each target."""
    log = logits.log_softmax(-1)
    left, right = log.gather(-1, bins[..., None]), log.gather(-1, bins[..., None] + 1)
    return -(left[..., 0] * (1 - parts) + right[..., 0] * parts)
