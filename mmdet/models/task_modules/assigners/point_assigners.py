"""Matching rules for points. Points are x, y in pixels of the network input.

Letters: B images, G padded ground truths, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import Assignment, BestMatch, PaddedGT

INF = 1e8


def space_scale_match(
    points: Tensor, strides: Tensor, ranges: Tensor, gt: PaddedGT, radius: float | None = None
) -> Assignment:
    """FCOS, Sec. 3.2: a point inside a box, whose farthest side is in its level's range; the smallest box wins.

    Args:
        points: ``(P, 2)``.
        strides: ``(P,)`` of each point's level.
        ranges: ``(P, 2)`` lowest and highest farthest side, in pixels.
        radius: With it a point must be this many strides from the box's centre at most, along both axes.
    """
    x, y = points.unbind(-1)  # (P,)
    match = BestMatch(gt.mask.new_empty(len(gt.mask), len(points)), start=-INF)
    reach = None if radius is None else strides * radius
    for part in gt.chunks(len(points), matrices=6):
        x1, y1, x2, y2 = gt.boxes[:, part].unbind(-1)  # (B, g)
        left, right = x - x1[..., None], x2[..., None] - x  # (B, g, P)
        top, bottom = y - y1[..., None], y2[..., None] - y
        farthest = torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))
        nearest = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom))
        if reach is not None:
            cx, cy = ((x1 + x2) / 2)[..., None], ((y1 + y2) / 2)[..., None]
            # The centre region, cut to the box.
            left, right = x - torch.maximum(cx - reach, x1[..., None]), torch.minimum(cx + reach, x2[..., None]) - x
            top, bottom = y - torch.maximum(cy - reach, y1[..., None]), torch.minimum(cy + reach, y2[..., None]) - y
            nearest = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom))
        fits = (nearest > 0) & (farthest >= ranges[:, 0]) & (farthest <= ranges[:, 1]) & gt.mask[:, part, None]
        area = (x2 - x1) * (y2 - y1)
        match.update(torch.where(fits, -area[..., None], -INF), part)
    return Assignment(torch.where(match.score > -INF, match.gt_inds, 0), match.score)
