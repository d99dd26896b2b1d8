"""Suppression in a graph whose sizes do not depend on data: as many rounds as results, each of a whole batch.

Letters: B images, K candidates, M results.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .compiled import is_exporting

NONE = -1.0
"""Score of what does not take part."""


def fixed_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    limit: int,
    decay: Callable[[Tensor], Tensor],
    within: bool = True,
) -> tuple[Tensor, Tensor]:
    """Take the best candidate of every image, let it lower the scores of its group, and again.

    Args:
        boxes: ``(B, K, 4)`` xyxy, where ``x2`` is the edge.
        scores: ``(B, K)``, not less than 0; :data:`NONE` for what does not take part.
        groups: ``(B, K)``; boxes of different groups do not meet. None for one group.
        limit: M.
        decay: Overlaps ``(B, K)`` to the factors of scores; 0 drops a candidate.
        within: Whether boxes of a group meet; if not, those of different groups do instead.

    Returns:
        Indices ``(B, M)`` and scores when taken ``(B, M)``, those beyond the last result :data:`NONE`.
    """
    places = torch.arange(limit, device=boxes.device)
    all_places = torch.arange(scores.shape[1], device=boxes.device)

    def go_on(step: Tensor, rest: Tensor, index: Tensor, found: Tensor) -> Tensor:
        return (step < limit) & (rest.amax((0, 1)) > NONE)

    def take(step: Tensor, rest: Tensor, index: Tensor, found: Tensor) -> tuple[Tensor, ...]:
        best = rest.argmax(1, keepdim=True)  # (B, 1)
        score = rest.gather(1, best)
        x1, y1, x2, y2 = boxes.unbind(-1)
        u1, v1, u2, v2 = boxes.gather(1, best[..., None].expand(-1, -1, 4)).unbind(-1)
        width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
        shared = (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0) * width
        union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
        factor = decay(torch.where(union > 0, shared / union, 0.0))
        if groups is not None:
            factor = torch.where((groups == groups.gather(1, best)) == within, factor, 1.0)
        lowered = torch.where(factor > 0, rest * factor, NONE)
        lowered = torch.where((rest > NONE) & (all_places != best), lowered, NONE)
        now = places == step
        return step + 1, lowered, torch.where(now, best, index), torch.where(now, score, found)

    index = torch.zeros_like(scores[:, :1], dtype=torch.long).expand(-1, limit).clone()
    found = torch.full_like(scores[:, :1], NONE).expand(-1, limit).clone()
    state = torch.zeros((), dtype=torch.long, device=boxes.device), scores, index, found
    if is_exporting():
        from torch._higher_order_ops.while_loop import while_loop

        return while_loop(go_on, take, state)[2:]
    while go_on(*state):
        state = take(*state)  # type: ignore[assignment]
    return state[2:]


def greedy_decay(threshold: float) -> Callable[[Tensor], Tensor]:
    """What overlaps by more goes."""
    return lambda overlap: (overlap <= threshold).to(overlap.dtype)


def soft_decay(method: str, threshold: float, sigma: float) -> Callable[[Tensor], Tensor]:
    """Soft-NMS (arXiv:1704.04503, Eq. 1 to 3)."""
    if method == 'naive':
        return lambda overlap: (overlap < threshold).to(overlap.dtype)
    if method == 'linear':
        return lambda overlap: torch.where(overlap >= threshold, 1 - overlap, 1.0)
    return lambda overlap: (-overlap * overlap / sigma).exp()
