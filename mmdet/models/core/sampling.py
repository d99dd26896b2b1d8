"""Draw a fixed number of positives and negatives from every image of a batch, without a host sync.

Letters: B images, P candidates, S slots.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .ordering import stable_topk


def draw(members: Tensor, limit: int, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """At most ``limit`` members of each row, drawn at random, or those of the highest ``keys``: of equals the first.

    Args:
        members: ``(B, P)`` bool.
        keys: ``(B, P)``, at least 0.

    Returns:
        Indices ``(B, K)`` and whether each is a member ``(B, K)``; members come first. K is ``min(limit, P)``.
    """
    if keys is None:  # no order among equals to keep
        noise = torch.rand(members.shape, device=members.device)
        top, index = torch.where(members, noise, -1.0).topk(min(limit, members.shape[1]), 1)
    else:
        top, index = stable_topk(torch.where(members, keys, -1.0), limit)
    return index, top >= 0


def rank_within(groups: Tensor, keys: Tensor, num_groups: int) -> Tensor:
    """``(B, P)`` rank of each element among those of its group, by descending ``keys`` in [0, 1).

    Args:
        groups: ``(B, P)`` in ``[0, num_groups)``.
    """
    order = (groups - keys).argsort(dim=1, stable=True)  # by group, then from the highest key
    counts = torch.zeros(len(groups), num_groups, dtype=torch.long, device=groups.device)
    counts = counts.scatter_add(1, groups, torch.ones_like(groups))
    starts = counts.cumsum(1) - counts
    place = torch.arange(groups.shape[1], device=groups.device).expand_as(groups)
    rank = place - starts.gather(1, groups.gather(1, order))
    return torch.empty_like(rank).scatter(1, order, rank)


def hard_negatives(loss: Tensor, pos: Tensor, neg: Tensor, ratio: float) -> Tensor:
    """``(B, P)`` bool: the negatives of the highest loss, ``ratio`` for each positive of the image."""
    rank = torch.where(neg, loss.detach(), -1.0).argsort(dim=1, descending=True, stable=True).argsort(1)
    return neg & (rank < pos.sum(1, keepdim=True) * ratio)


def as_masks(index: Tensor, valid: Tensor, count: int) -> Tensor:
    """Indices ``(B, K)`` as a mask ``(B, count)``."""
    mask = torch.zeros(len(index), count, dtype=torch.bool, device=index.device)
    return mask.scatter(1, index, valid)


def as_slots(
    pos_index: Tensor, pos_valid: Tensor, neg_index: Tensor, neg_valid: Tensor, slots: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates in ``S = min(slots, K_pos + K_neg)`` slots with the positives first.

    Returns:
        Candidate of each slot, whether the slot is used, and whether it holds a positive, each ``(B, S)``.
    """
    index = torch.cat([pos_index, neg_index], 1)
    rank = torch.cat([pos_valid * 2, neg_valid * 1], 1)
    kind, order = rank.sort(dim=1, descending=True, stable=True)
    slots = min(slots, index.shape[1])
    kind = kind[:, :slots]
    return index.gather(1, order[:, :slots]), kind > 0, kind > 1
