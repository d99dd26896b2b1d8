"""Which tokens of a text say what: from places of names to targets and scores.

Letters: B images, G ground truths, Q queries or priors, T tokens, N names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .gt import DenseTargets, PaddedGT, pad_batch

TokenMap = Mapping[int, Sequence[int]]
"""Label, counted from 1 -> the tokens of its name."""


def tokens_in_spans(offsets: Sequence[tuple[int, int]], spans: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that share a letter with one of the spans.

    Args:
        offsets: Where each token starts and ends in the text; nothing lies between where it stands for no letter.
        spans: Starts and ends in the text.
    """
    inside = lambda start, end: any(start < stop and first < end for first, stop in spans)
    return [token for token, (start, end) in enumerate(offsets) if start < end and inside(start, end)]


def positive_map(tokens: Sequence[Sequence[int]], size: int) -> Tensor:
    """``(N, T)`` equal parts of one at the tokens of each name, of which those beyond ``size``, T, are lost."""
    values = torch.zeros(len(tokens), size)
    for row, name in enumerate(tokens):
        values[row, [token for token in name if token < size]] = 1
    return values / (values.sum(-1, keepdim=True) + 1e-6)


def class_scores(scores: Tensor, maps: TokenMap) -> Tensor:
    """``(..., Q, N)`` the mean over the tokens of each name, of ``scores (..., Q, T)``."""
    parts = torch.zeros(scores.shape[-1], max(maps, default=0))
    for label, tokens in maps.items():
        if tokens:
            parts[list(tokens), label - 1] = 1 / len(tokens)
    return scores @ parts.to(scores, non_blocking=True)


def token_targets(targets: DenseTargets, gt: PaddedGT) -> Tensor:
    """``(B, Q, T)`` of positives the map of their ground truth, ``positive_maps (g, T)``, and zeros of the others."""
    maps = pad_batch([instances.positive_maps for instances in gt.instances])
    assert targets.gt_inds is not None
    index = (targets.gt_inds - 1).clamp(min=0)[..., None].expand(-1, -1, maps.shape[-1])
    return maps.gather(1, index) * targets.pos[..., None]


def padded_to(mask: Tensor, size: int) -> Tensor:
    """``(B, size)`` bool of a mask ``(B, T)`` of tokens that exist."""
    return torch.nn.functional.pad(mask > 0, (0, size - mask.shape[1]))
