"""Matching rules for points. Points are x, y in pixels of the network input.

Letters: B images, G padded ground truths, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import Assignment, BestMatch, PaddedGT, Priors, best_of_candidates, stable_topk
from mmdet.registry import TASK_UTILS

from .base_assigner import BaseAssigner

INF = 1e8


def space_scale_match(
    points: Tensor,
    strides: Tensor | None,
    ranges: Tensor,
    gt: PaddedGT,
    radius: float | None = None,
    margin: float = 0,
    centers: Tensor | None = None,
) -> Assignment:
    """FCOS, Sec. 3.2: a point inside a box, whose farthest side is in its level's range; the smallest box wins.

    Args:
        points: ``(P, 2)``, or ``(B, P, 2)`` where every image has its own.
        strides: ``(P,)`` of each point's level, needed with ``radius``.
        ranges: ``(P, 2)`` lowest and highest farthest side, in pixels.
        radius: With it a point must be this many strides from the box's centre at most, along both axes.
        centers: ``(B, G, 2)`` xy in place of the boxes' centres.
        margin: How far inside the box a point must lie, in pixels.
    """
    x, y = (points[..., i].contiguous().unsqueeze(-2) for i in (0, 1))  # (1, P) or (B, 1, P)
    low, high = ranges.t().contiguous()
    num_points = points.shape[-2]
    match = BestMatch(gt.mask.new_empty(len(gt.mask), num_points), start=-INF)
    reach = None if radius is None else strides * radius
    for part in gt.chunks(num_points, matrices=6):
        x1, y1, x2, y2 = gt.boxes[:, part].unbind(-1)  # (B, g)
        left, right = x - x1[..., None], x2[..., None] - x  # (B, g, P)
        top, bottom = y - y1[..., None], y2[..., None] - y
        nearest = _least(left, right, top, bottom)
        farthest = torch.maximum(left, right, out=left)
        farthest = torch.maximum(farthest, torch.maximum(top, bottom, out=top), out=farthest)
        if reach is not None:
            middle = ((x1 + x2) / 2, (y1 + y2) / 2) if centers is None else centers[:, part].unbind(-1)
            cx, cy = (place[..., None] for place in middle)
            # The centre region, cut to the box.
            left, right = x - torch.maximum(cx - reach, x1[..., None]), torch.minimum(cx + reach, x2[..., None]) - x
            top, bottom = y - torch.maximum(cy - reach, y1[..., None]), torch.minimum(cy + reach, y2[..., None]) - y
            nearest = _least(left, right, top, bottom)
        fits = (nearest > margin) & (farthest >= low)
        fits &= farthest <= high
        fits &= gt.mask[:, part, None]
        area = (x2 - x1) * (y2 - y1)
        match.update(torch.where(fits, -area[..., None], -INF), part)
    return Assignment(torch.where(match.score > -INF, match.gt_inds, 0), match.score)


def _least(left: Tensor, right: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    least = torch.minimum(left, right)
    return torch.minimum(least, torch.minimum(top, bottom), out=least)


@TASK_UTILS.register_module()
class PointAssigner(BaseAssigner):
    """The ``pos_num`` points nearest to a box's centre on the one level that fits its size (RepPoints, Sec. 3.3).

    Distances are in units of the box's sides. Priors are ``(..., 3 or 4)``: x, y and stride.

    Args:
        scale: A box of this many strides belongs to the level.
    """

    def __init__(self, scale: float = 4, pos_num: int = 3) -> None:
        self.scale, self.pos_num = scale, pos_num

    @torch.no_grad()
    def assign_batch(self, priors: Priors, gt: PaddedGT, *, scores=None, bboxes=None, **kwargs) -> Assignment:
        points = priors.expanded()
        level = points[..., 2].log2().int()  # (B, P)
        sides = (gt.boxes[..., 2:] - gt.boxes[..., :2]).clamp(min=1e-6)
        wanted = (sides / self.scale).log2().mean(-1).int()  # (B, G)
        low = torch.where(priors.valid, level, level.amax()).amin(1, keepdim=True)
        high = torch.where(priors.valid, level, level.amin()).amax(1, keepdim=True)
        wanted = torch.minimum(torch.maximum(wanted, low), high)
        center = (gt.boxes[..., :2] + gt.boxes[..., 2:]) / 2
        chosen, distances = [], []
        for part in gt.chunks(points.shape[1], matrices=3):
            offset = (points[:, None, :, :2] - center[:, part, None]) / sides[:, part, None]
            fits = (level[:, None] == wanted[:, part, None]) & priors.valid[:, None]
            distance = offset.norm(dim=-1).masked_fill(~fits, torch.inf)
            nearest, index = stable_topk(distance, self.pos_num, largest=False)
            chosen.append(index)
            distances.append(nearest)
        candidates, distance = torch.cat(chosen, 1), torch.cat(distances, 1)
        positive = distance.isfinite() & gt.mask[..., None]
        inds, _ = best_of_candidates(candidates, -distance, positive, points.shape[1])
        return Assignment(inds.masked_fill(~priors.valid, -1))
