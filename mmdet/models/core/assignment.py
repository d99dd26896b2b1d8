"""Which ground truth each prior, proposal or query is trained for.

Letters: B images, G padded ground truths, P priors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .gt import PaddedGT


@dataclass
class Assignment:
    """
    Attributes:
        gt_inds: ``(B, P)``: -1 ignored, 0 background, i + 1 for ground truth i of the image.
        quality: ``(B, P)`` the overlap or score that decided, for samplers and quality losses; may be None.
        extras: Further tensors of an assigner, ``(B, ..., P)``.
    """

    gt_inds: Tensor
    quality: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)

    @property
    def pos(self) -> Tensor:
        """``(B, P)`` bool: assigned to a ground truth."""
        return self.gt_inds > 0

    @property
    def neg(self) -> Tensor:
        """``(B, P)`` bool: background; what is ignored is neither."""
        return self.gt_inds == 0


def best_of_candidates(candidates: Tensor, scores: Tensor, positive: Tensor, num_priors: int) -> tuple[Tensor, Tensor]:
    """Settle rules that propose a few priors per ground truth.

    Args:
        candidates: ``(B, G, K)`` indices of priors.
        scores: ``(B, G, K)`` in which the highest wins a prior; of equals the first ground truth.
        positive: ``(B, G, K)`` bool, the candidates that count.

    Returns:
        ``gt_inds (B, P)`` with 0 for priors that no ground truth won, and the winning score, -1 there.
    """
    batch, num_gt, _ = candidates.shape
    flat = candidates.flatten(1)
    wanted = torch.where(positive, scores, -torch.inf).flatten(1)
    best = scores.new_full((batch, num_priors), -torch.inf).scatter_reduce(1, flat, wanted, 'amax')
    order = torch.arange(1, num_gt + 1, device=flat.device)[None, :, None].expand_as(candidates).flatten(1)
    wins = positive.flatten(1) & (wanted == best.gather(1, flat))
    order = torch.where(wins, order, num_gt + 1)
    first = torch.full((batch, num_priors), num_gt + 1, dtype=torch.long, device=flat.device)
    first = first.scatter_reduce(1, flat, order, 'amin')
    won = first <= num_gt
    return torch.where(won, first, 0), torch.where(won, best, -1.0)


def labels_of(assignment: Assignment, gt: PaddedGT) -> Tensor:
    """``(B, P)`` class of each positive, -1 elsewhere: the ``labels`` of an ``AssignResult``."""
    return torch.where(assignment.pos, gt.gather(assignment.gt_inds)[1], -1)
