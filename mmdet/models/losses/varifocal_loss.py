from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .cross_entropy_loss import binary_entropy
from .utils import WeightedLoss, check_same_shape, column_weight, weight_reduce_loss


def varifocal_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    alpha: float = 0.75,
    gamma: float = 2.0,
    iou_weighted: bool = True,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
    detach_scale: bool = False,
) -> Tensor:
    """VarifocalNet (arXiv:2008.13367), Eq. 2: only negatives are scaled down, positives count by their IoU.

    Args:
        pred: Logits of shape (N, C).
        target: IoU of the positives at their class, else 0, shape (N, C).
        weight: Shape (N,) or (N, C).
        detach_scale: Whether the scale of negatives is a constant for the gradient, as RT-DETR has it.
    """
    check_same_shape(pred, target)
    target = target.to(pred.dtype)
    positive = target > 0
    probability, entropy = binary_entropy(pred, target)
    seen = probability.detach() if detach_scale else probability
    negative_scale = alpha * (seen - target).abs().pow(gamma)
    scale = torch.where(positive, target if iou_weighted else torch.ones_like(target), negative_scale)
    loss = entropy * scale
    return weight_reduce_loss(loss, column_weight(weight, loss.dim()), reduction, avg_factor)


@MODELS.register_module()
class VarifocalLoss(WeightedLoss):
    """Varifocal loss (arXiv:2008.13367)."""

    function = staticmethod(varifocal_loss)

    def __init__(
        self,
        use_sigmoid: bool = True,
        alpha: float = 0.75,
        gamma: float = 2.0,
        iou_weighted: bool = True,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        detach_scale: bool = False,
    ) -> None:
        if not use_sigmoid:
            raise UserValueError('VarifocalLoss is defined with use_sigmoid=True only.')
        if alpha < 0:
            raise UserValueError(f'alpha={alpha} of VarifocalLoss must not be negative.')
        super().__init__(
            reduction, loss_weight, alpha=alpha, gamma=gamma, iou_weighted=iou_weighted, detach_scale=detach_scale
        )
        self.use_sigmoid = use_sigmoid
