from __future__ import annotations

from torch import Tensor

from mmdet.registry import MODELS

from .utils import WeightedLoss, regression_loss


@regression_loss
def mse_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Squared difference."""
    return (pred - target).square()


@MODELS.register_module()
class MSELoss(WeightedLoss):
    """Squared difference, weighted."""

    function = staticmethod(mse_loss)

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
