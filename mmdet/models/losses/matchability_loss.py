from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .cross_entropy_loss import binary_entropy
from .utils import WeightedLoss, check_same_shape, column_weight, weight_reduce_loss


def matchability_aware_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    gamma: float = 1.5,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """DEIM (arXiv:2412.04234), Eq. 3: positives aim at a power of their IoU, so that poor matches still count.

    Args:
        pred: Logits of shape (N, C).
        target: IoU of the positives at their class, else 0, shape (N, C).
        weight: Shape (N,) or (N, C).
    """
    check_same_shape(pred, target)
    target = target.to(pred.dtype)
    probability, entropy = binary_entropy(pred, target.pow(gamma))
    # scales are constants for the gradient
    loss = entropy * torch.where(target > 0, 1.0, probability.detach().pow(gamma))
    return weight_reduce_loss(loss, column_weight(weight, loss.dim()), reduction, avg_factor)


def iou_aware_bce_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """LW-DETR (arXiv:2406.03459), Eq. 3: positives aim at ``score**alpha * IoU**(1 - alpha)``, at least 0.01.

    Args:
        pred: Logits of shape (N, C).
        target: IoU of the positives at their class, above 0; else 0, shape (N, C).
        weight: Shape (N,) or (N, C).
    """
    check_same_shape(pred, target)
    positive = target > 0
    score = pred.sigmoid()
    overlap = torch.where(positive, target, 1.0).to(pred.dtype)
    aim = (score.detach().pow(alpha) * overlap.pow(1 - alpha)).clamp(min=0.01)
    entropy = F.softplus(pred) - torch.where(positive, aim, 0.0) * pred
    loss = torch.where(positive, entropy, F.softplus(pred) * score.pow(gamma))
    return weight_reduce_loss(loss, column_weight(weight, loss.dim()), reduction, avg_factor)


@MODELS.register_module()
class IoUAwareBCELoss(WeightedLoss):
    """IoU-aware binary cross entropy of LW-DETR (arXiv:2406.03459).

    Args:
        alpha: Share of the score in what positives aim at.
        gamma: Power of the scores that negatives are weighted by.
    """

    function = staticmethod(iou_aware_bce_loss)

    def __init__(
        self,
        use_sigmoid: bool = True,
        alpha: float = 0.25,
        gamma: float = 2.0,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        if not use_sigmoid:
            raise UserValueError('IoUAwareBCELoss is defined with use_sigmoid=True only.')
        if not 0 <= alpha <= 1:
            raise UserValueError(f'alpha={alpha} of IoUAwareBCELoss must be from 0 to 1.')
        super().__init__(reduction, loss_weight, alpha=alpha, gamma=gamma)
        self.use_sigmoid = use_sigmoid


@MODELS.register_module()
class MatchabilityAwareLoss(WeightedLoss):
    """Matchability-aware loss of DEIM (arXiv:2412.04234).

    Args:
        gamma: Power of the IoU that positives aim at, and of the scores that negatives are weighted by.
    """

    function = staticmethod(matchability_aware_loss)

    def __init__(
        self, use_sigmoid: bool = True, gamma: float = 1.5, reduction: str = 'mean', loss_weight: float = 1.0
    ) -> None:
        if not use_sigmoid:
            raise UserValueError('MatchabilityAwareLoss is defined with use_sigmoid=True only.')
        if gamma <= 0:
            raise UserValueError(f'gamma={gamma} of MatchabilityAwareLoss must be above 0.')
        super().__init__(reduction, loss_weight, gamma=gamma)
        self.use_sigmoid = use_sigmoid
