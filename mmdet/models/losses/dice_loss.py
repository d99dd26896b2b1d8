from __future__ import annotations

from torch import Tensor

from mmdet.errors import UserNotImplementedError, UserValueError
from mmdet.registry import MODELS

from .utils import WeightedLoss, weight_reduce_loss


def dice_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    eps: float = 1e-3,
    reduction: str = 'mean',
    naive_dice: bool = False,
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """One minus the Dice coefficient of each sample.

    Args:
        pred: Probabilities, shape (N, ...).
        target: Shape of ``pred``.
        weight: Shape (N,).
        naive_dice: Sums in the denominator, with ``eps`` above and below (MaskFormer), in place of the sums of
            squares of V-Net (arXiv:1606.04797, Sec. 3).
    """
    if weight is not None and len(weight) != len(pred):
        raise UserValueError(f'{len(weight)} weights for {len(pred)} samples.')
    pred, target = pred.flatten(1), target.flatten(1).to(pred.dtype)
    overlap = 2 * (pred * target).sum(1)
    if naive_dice:
        loss = 1 - (overlap + eps) / (pred.sum(1) + target.sum(1) + eps)
    else:
        loss = 1 - overlap / (pred.square().sum(1) + target.square().sum(1) + 2 * eps)
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


@MODELS.register_module()
class DiceLoss(WeightedLoss):
    """Dice loss (arXiv:1606.04797).

    Args:
        use_sigmoid: How ``activate`` makes probabilities; only True is defined.
        activate: Predictions are logits.
        naive_dice: See :func:`dice_loss`.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        activate: bool = True,
        reduction: str = 'mean',
        naive_dice: bool = False,
        loss_weight: float = 1.0,
        eps: float = 1e-3,
    ) -> None:
        if activate and not use_sigmoid:
            raise UserNotImplementedError(
                'DiceLoss activates with a sigmoid only: pass activate=False for probabilities.'
            )
        super().__init__(reduction, loss_weight, eps=eps, naive_dice=naive_dice)
        self.use_sigmoid = use_sigmoid
        self.activate = activate

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        reduction_override: str | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """As :func:`dice_loss`, of logits with ``activate``."""
        reduction = self.reduction_for(reduction_override)
        pred = pred.sigmoid() if self.activate else pred
        loss = dice_loss(pred, target, weight, reduction=reduction, avg_factor=avg_factor, **self.options)
        return self.loss_weight * loss
