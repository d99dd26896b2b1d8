"""Matrix NMS (SOLOv2, arXiv:2003.10152, Sec. 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserNotImplementedError, UserValueError


def mask_matrix_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    filter_thr: float = -1,
    nms_pre: int = -1,
    max_num: int = -1,
    kernel: str = 'gaussian',
    sigma: float = 2.0,
    mask_area: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lower the score of each mask by its overlap with better masks of its class, all at once.

    Args:
        masks: (N, H, W), binary.
        labels: (N,).
        scores: (N,).
        filter_thr: Masks whose lowered score is less are left out, if positive.
        nms_pre: The best so many go in, if positive.
        max_num: The best so many come out, if positive.
        kernel: How an overlap lowers a score: 'gaussian' or 'linear'.
        sigma: Of the Gaussian.
        mask_area: (N,), where it is known already.

    Returns:
        Scores, labels and masks, best first, and their indices in the input.
    """
    if kernel not in ('gaussian', 'linear'):
        raise UserNotImplementedError(f"kernel must be 'gaussian' or 'linear', not {kernel!r}")
    lengths = {len(masks), len(labels), len(scores)} | ({len(mask_area)} if mask_area is not None else set())
    if len(lengths) > 1:
        raise UserValueError(
            f'masks, labels, scores and mask_area must be of one length, not of {", ".join(map(str, sorted(lengths)))}'
        )
    if not len(labels):
        return scores, labels, masks, labels.new_zeros(0, dtype=torch.long)
    area = masks.sum((1, 2)).float() if mask_area is None else mask_area
    scores, keep = scores.sort(descending=True)
    if nms_pre > 0:
        scores, keep = scores[:nms_pre], keep[:nms_pre]
    scores = scores * matrix_decay(masks[keep], labels[keep], area[keep], kernel, sigma)
    if filter_thr > 0:
        enough = scores >= filter_thr
        scores, keep = scores[enough], keep[enough]
    scores, order = scores.sort(descending=True)
    if max_num > 0:
        scores, order = scores[:max_num], order[:max_num]
    keep = keep[order]
    return scores, labels[keep], masks[keep], keep


def matrix_decay(masks: Tensor, labels: Tensor, area: Tensor, kernel: str, sigma: float) -> Tensor:
    """Factor on each score, (..., N), Eqn. 4: how the worst better mask weighs, itself weakened by its own overlaps.

    Args:
        masks: (..., N, H, W), binary, best first; an empty one overlaps none.
        labels, area: (..., N).
    """
    flat = masks.flatten(-2).float()
    common = flat @ flat.transpose(-1, -2)
    iou = common / (area[..., None, :] + area[..., None] - common).clamp(min=1)
    iou = (iou * (labels[..., None, :] == labels[..., None])).triu(diagonal=1)  # (better, worse)
    above = iou.amax(-2)[..., None]  # largest overlap of the better mask with one better still
    if kernel == 'gaussian':
        return (sigma * (above**2 - iou**2)).exp().amin(-2)
    return ((1 - iou) / (1 - above)).amin(-2)
