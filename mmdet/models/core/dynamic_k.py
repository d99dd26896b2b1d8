"""Assignments in which every ground truth chooses how many priors it gets (OTA's kin).

Letters: B images, G padded ground truths, g of them in one part, P priors of all levels, K candidates, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .assignment import Assignment, best_of_candidates
from .gt import BestMatch, PaddedGT
from .ordering import stable_topk

Pairs = Callable[[slice], tuple[Tensor, ...]]
"""Values ``(B, g, P)`` of the ground truths in a slice of the G axis with all priors."""


def dynamic_k(pairs: Pairs, usable: Tensor, gt: PaddedGT, topk: int, matrices: int = 6) -> Tensor:
    """The cheapest priors of each ground truth, as many as its ``topk`` best overlaps add up to (YOLOX, Sec. 2.1).

    At least one prior for each ground truth, at most ``topk``. A prior that several ground truths chose goes to the one
    for which it is the cheapest, whether that one chose it or not.

    Args:
        pairs: Costs and overlaps.
        usable: ``(B, P)`` bool, which priors can be chosen at all.
        matrices: How many matrices ``(B, g, P)`` ``pairs`` holds at a time.

    Returns:
        ``gt_inds (B, P)``, 0 where a prior was not chosen.
    """
    num_priors = usable.shape[1]
    cheapest = BestMatch(usable, start=-torch.inf)
    chosen, wanted = [], []
    for part in gt.chunks(num_priors, matrices):
        cost, overlap = pairs(part)
        able = usable[:, None] & gt.mask[:, part, None]
        cost = cost.masked_fill(~able, torch.inf)
        cheapest.update(-cost, part)
        best = overlap.masked_fill(~able, 0).topk(min(topk, num_priors), sorted=False).values
        count = best.sum(-1).int().clamp(min=1)  # (B, g)
        lowest, index = stable_topk(cost, topk, largest=False)
        rank = torch.arange(index.shape[-1], device=index.device)
        chosen.append(index)
        wanted.append((rank < count[..., None]) & lowest.isfinite())
    index, want = torch.cat(chosen, 1), torch.cat(wanted, 1)  # (B, G, K)
    only, _ = best_of_candidates(index, torch.zeros_like(index, dtype=torch.float32), want, num_priors)
    number = torch.zeros_like(only).scatter_add(1, index.flatten(1), want.flatten(1).long())
    return torch.where(number > 1, cheapest.gt_inds, only)


def best_of_aligned(pairs: Pairs, usable: Tensor, gt: PaddedGT, topk: int, matrices: int = 4) -> Tensor:
    """The ``topk`` priors of the greatest metric, of each ground truth (TOOD, Sec. 3.2).

    A prior that several chose goes to the one of the greatest overlap.

    Args:
        pairs: Metrics, which only count above 0, overlaps, and whether a prior may be chosen: one that may not still
            takes the place of another among the best.

    Returns:
        ``gt_inds (B, P)`` as :func:`dynamic_k`.
    """
    candidates, overlaps, positive = [], [], []
    for part in gt.chunks(usable.shape[1], matrices):
        metric, overlap, able = pairs(part)
        best, index = stable_topk(metric.masked_fill(~usable[:, None], 0), topk)
        candidates.append(index)
        overlaps.append(overlap.gather(-1, index))
        positive.append((best > 0) & able.gather(-1, index) & gt.mask[:, part, None])
    everything = torch.cat(candidates, 1), torch.cat(overlaps, 1), torch.cat(positive, 1)
    return best_of_candidates(*everything, num_priors=usable.shape[1])[0]


def columns(values: Tensor, labels: Tensor) -> Tensor:
    """Values ``(B, P, C)`` at the classes ``labels (B, g)``, ``(B, g, P)``."""
    return values.transpose(1, 2).gather(1, labels[..., None].expand(-1, -1, values.shape[1]))


def share_of_best(metric: Tensor, overlap: Tensor, assignment: Assignment, gt: PaddedGT) -> Tensor:
    """Metrics ``(B, P)`` of the positives scaled so that the greatest of each ground truth is its greatest overlap.

    0 off the positives (TOOD, Sec. 3.2, the normalised t).
    """
    index = (assignment.gt_inds - 1).clamp(min=0)
    metric, overlap = (torch.where(assignment.pos, value, 0.0) for value in (metric, overlap))
    none = metric.new_zeros(gt.mask.shape)
    top, top_overlap = (none.scatter_reduce(1, index, value, 'amax').gather(1, index) for value in (metric, overlap))
    return metric / (top + 1e-7) * top_overlap
