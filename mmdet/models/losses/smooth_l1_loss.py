from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .utils import WeightedLoss, regression_loss


def smoothed(gap: Tensor, beta: float) -> Tensor:
    """Quadratic below ``beta``, linear above, for ``gap`` of zero or more (Fast R-CNN, Eq. 3; there ``beta`` is 1)."""
    return torch.where(gap < beta, 0.5 * gap * gap / beta, gap - 0.5 * beta)


@regression_loss
def smooth_l1_loss(pred: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """:func:`smoothed` difference.

    Raises:
        ValueError: if ``beta`` is not positive.
    """
    if beta <= 0:
        raise UserValueError(f'beta={beta} of smooth_l1_loss must be positive; use L1Loss for the limit 0.')
    return smoothed((pred - target).abs(), beta)


l1_loss = regression_loss(partial(F.l1_loss, reduction='none'))


@MODELS.register_module()
class SmoothL1Loss(WeightedLoss):
    """Absolute difference, quadratic below ``beta`` (Fast R-CNN, arXiv:1504.08083, Eq. 3, where ``beta`` is 1)."""

    function = staticmethod(smooth_l1_loss)

    def __init__(self, beta: float = 1.0, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight, beta=beta)


@MODELS.register_module()
class L1Loss(WeightedLoss):
    """Absolute difference, weighted."""

    function = staticmethod(l1_loss)

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
