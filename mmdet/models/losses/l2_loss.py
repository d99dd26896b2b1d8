from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .mse_loss import mse_loss
from .utils import WeightedLoss

l2_loss = mse_loss


@MODELS.register_module()
class L2Loss(WeightedLoss):
    """Squared error on similarities, with margins and a bound on the share of negatives.

    Args:
        neg_pos_ub: At most this many negatives for each positive; -1 for all.
        pos_margin: Taken off the predictions of positives if positive.
        neg_margin: Taken off the predictions of negatives if positive.
        hard_mining: Keep the negatives of greatest loss, not random ones.
    """

    def __init__(
        self,
        neg_pos_ub: float = -1,
        pos_margin: float = -1,
        neg_margin: float = -1,
        hard_mining: bool = False,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.neg_pos_ub = neg_pos_ub
        self.pos_margin = pos_margin
        self.neg_margin = neg_margin
        self.hard_mining = hard_mining

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Any shape; targets are 1 or 0, and elements of weight zero are neither."""
        reduction = self.reduction_for(reduction_override)
        if avg_factor is not None and reduction == 'sum':
            raise UserValueError("avg_factor cannot be used with reduction='sum'.")
        pred, weight, avg_factor = self.update_weight(pred, target, weight, avg_factor)
        if reduction != 'mean':
            avg_factor = None
        return self.loss_weight * l2_loss(pred, target, weight, reduction, avg_factor)

    @staticmethod
    def random_choice(gallery, num: int):
        """``num`` elements of a tensor or list, drawn without repetition, as a tensor, or as an array from a list."""
        if num > len(gallery):
            raise UserValueError(f'{num} elements cannot be drawn from {len(gallery)}')
        chosen = torch.randperm(len(gallery))[:num]
        return (
            gallery[chosen.to(gallery.device)] if isinstance(gallery, Tensor) else np.asarray(gallery)[chosen.numpy()]
        )

    def update_weight(
        self, pred: Tensor, target: Tensor, weight: Tensor | None, avg_factor: float | Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions within their margins, weights of the kept elements and their number."""
        weight = torch.ones_like(pred) if weight is None else weight.to(pred.dtype)
        counted = weight > 0
        positive, negative = counted & (target == 1), counted & (target == 0)
        if self.pos_margin > 0:
            pred = pred - self.pos_margin * positive
        if self.neg_margin > 0:
            pred = pred - self.neg_margin * negative
        pred = pred.clamp(min=0, max=1)
        if self.neg_pos_ub > 0:
            cost = (pred.detach() - target).square() if self.hard_mining else torch.rand_like(pred)
            order = cost.masked_fill(~negative, -1).flatten().argsort(descending=True, stable=True)
            rank = order.argsort().reshape(pred.shape)
            weight = weight * (positive | negative & (rank < (positive.sum() * self.neg_pos_ub).long()))
        return pred, weight, (weight > 0).sum()


@MODELS.register_module()
class MarginL2Loss(L2Loss):
    """The name under which tracking configs (QDTrack, arXiv:2006.06664, Eq. 6) ask for :class:`L2Loss`."""
