from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    activate: bool = False,
) -> Tensor:
    """One minus the Dice coefficient of each sample; without a second derivative, unless it is the naive one.

    Args:
        pred: Probabilities, or logits with ``activate``, shape (N, ...).
        target: Shape of ``pred``; without a gradient.
        weight: Shape (N,).
        naive_dice: Sums in the denominator, with ``eps`` above and below (MaskFormer), in place of the sums of
            squares of V-Net (arXiv:1606.04797, Sec. 3).
    """
    if weight is not None and len(weight) != len(pred):
        raise UserValueError(f'{len(weight)} weights for {len(pred)} samples.')
    pred, target = pred.flatten(1), target.flatten(1)
    if naive_dice:
        pred = pred.sigmoid() if activate else pred
        target = target.to(pred.dtype)
        loss = 1 - (2 * (pred * target).sum(1) + eps) / (pred.sum(1) + target.sum(1) + eps)
    else:
        loss = 1 - _SquaredDice.apply(pred, target.detach(), 2 * eps, activate)
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


class _SquaredDice(torch.autograd.Function):
    """``2 p t / (p p + t t + eps)`` of each row of ``t (N, P)`` and p, what is predicted or its sigmoid.

    The gradient takes three passes, and p alone is kept for it.
    """

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, eps: float, activate: bool) -> Tensor:
        p = pred.to(torch.promote_types(pred.dtype, torch.float32))
        p = p.sigmoid() if activate else p
        t = target.to(p.dtype)
        overlap = 2 * torch.linalg.vecdot(p, t)
        total = sum(torch.linalg.vector_norm(x, dim=1).square() for x in (p, t)) + eps
        ctx.dtype, ctx.activate = pred.dtype, activate
        ctx.save_for_backward(p, target, overlap, total)
        return overlap / total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        p, target, overlap, total = ctx.saved_tensors
        slope = 2 * grad / total
        found = target.to(p.dtype, copy=True).mul_(slope[:, None])  # faster than a product of two types
        found.addcmul_(p, (-slope * overlap / total)[:, None])
        if ctx.activate:
            torch.ops.aten.sigmoid_backward.grad_input(found, p, grad_input=found)
        return found.to(ctx.dtype), None, None, None


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
        options = dict(self.options, reduction=reduction, avg_factor=avg_factor, activate=self.activate)
        loss = dice_loss(pred, target, weight, **options)
        return self.loss_weight * loss
