from __future__ import annotations

import math

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .utils import WeightedLoss, regression_loss


@regression_loss
def balanced_l1_loss(pred: Tensor, target: Tensor, beta: float = 1.0, alpha: float = 0.5, gamma: float = 1.5) -> Tensor:
    """Libra R-CNN (arXiv:1904.02701), Eq. 8 to 10: more gradient from inliers, none above ``gamma``.

    Raises:
        ValueError: if ``beta`` is not positive.
    """
    if beta <= 0:
        raise UserValueError(f'beta={beta} of balanced_l1_loss must be positive.')
    gap = (pred - target).abs()
    b = math.exp(gamma / alpha) - 1  # makes the gradient continuous: alpha * ln(b + 1) = gamma (Eq. 9)
    inlier = alpha / b * (b * gap + 1) * torch.log(b * gap / beta + 1) - alpha * gap
    outlier = gamma * gap + gamma / b - alpha * beta
    return torch.where(gap < beta, inlier, outlier)


@MODELS.register_module()
class BalancedL1Loss(WeightedLoss):
    """Balanced L1 loss of Libra R-CNN (arXiv:1904.02701)."""

    function = staticmethod(balanced_l1_loss)

    def __init__(
        self,
        alpha: float = 0.5,
        gamma: float = 1.5,
        beta: float = 1.0,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight, alpha=alpha, gamma=gamma, beta=beta)
