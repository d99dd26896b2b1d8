"""Focal loss (arXiv:1708.02002) on logits (N, C) and class indices (N,)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.errors import UserValueError


def _reduce(loss: Tensor, reduction: str, count: int) -> Tensor:
    if reduction not in ('none', 'mean', 'sum'):
        raise UserValueError(f"reduction={reduction!r} is none of 'none', 'mean', 'sum'.")
    return loss if reduction == 'none' else loss.sum() / (max(count, 1) if reduction == 'mean' else 1)


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    """One binary focal loss per class.

    Args:
        target: Class indices; C means background.
        weight: One weight per class of the label, shape (C,).
        reduction: ``'mean'`` divides by N, not by N * C.
    """
    one_hot = (target[:, None] == torch.arange(input.size(1), device=target.device)).to(input.dtype)
    probability = input.sigmoid()
    miss = (1 - probability) * one_hot + probability * (1 - one_hot)
    balance = alpha * one_hot + (1 - alpha) * (1 - one_hot)
    loss = F.binary_cross_entropy_with_logits(input, one_hot, reduction='none') * balance * miss.pow(gamma)
    if weight is not None:
        loss = loss * F.pad(weight, (0, 1), value=1)[target.clamp(0, input.size(1))][:, None]
    return _reduce(loss, reduction, len(input))


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    """One focal loss per sample, of the softmax score of its class; negative labels have none.

    Args:
        weight: One weight per class, shape (C,).
    """
    index = target.clamp(min=0)
    log_score = input.log_softmax(1).gather(1, index[:, None])[:, 0]
    loss = -alpha * (1 - log_score.exp()).pow(gamma) * log_score * (target >= 0)
    if weight is not None:
        loss = loss * weight[index]
    return _reduce(loss, reduction, len(input))


class SigmoidFocalLoss(nn.Module):
    """See :func:`sigmoid_focal_loss`."""

    function = staticmethod(sigmoid_focal_loss)
    weight: Tensor | None

    def __init__(self, gamma: float, alpha: float, weight: Tensor | None = None, reduction: str = 'mean') -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.register_buffer('weight', weight)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.function(input, target, self.gamma, self.alpha, self.weight, self.reduction)

    def extra_repr(self) -> str:
        return f'gamma={self.gamma}, alpha={self.alpha}, reduction={self.reduction}'


class SoftmaxFocalLoss(SigmoidFocalLoss):
    """See :func:`softmax_focal_loss`."""

    function = staticmethod(softmax_focal_loss)
