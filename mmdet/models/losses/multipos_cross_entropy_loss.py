from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmdet.registry import MODELS

from .utils import WeightedLoss, check_same_shape, weight_reduce_loss

FAR = -1e9  # exp() of it is 0, and unlike -inf it has a gradient


@MODELS.register_module()
class MultiPosCrossEntropyLoss(WeightedLoss):
    """Contrastive loss with several positives per row (QDTrack, arXiv:2006.06664, Eq. 5)."""

    def multi_pos_cross_entropy(
        self,
        pred: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        reduction: str = 'mean',
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """``log(1 + sum over positives p and negatives n of exp(pred_n - pred_p))`` of each row.

        Args:
            pred: Similarities, shape (N, K).
            label: 1 for a positive, 0 for a negative, shape (N, K). Rows of zeros do not count.
            weight: Shape (N,).
        """
        check_same_shape(pred, label)
        rows = label.sum(1) > 0
        negative = pred.masked_fill(label != 0, FAR).logsumexp(1)
        positive = (-pred).masked_fill(label != 1, FAR).logsumexp(1)
        loss = F.softplus(negative + positive)
        weight = rows.to(loss.dtype) if weight is None else weight.to(loss.dtype) * rows
        if avg_factor is None and reduction == 'mean':
            avg_factor = rows.sum()
        return weight_reduce_loss(loss, weight, reduction, avg_factor)

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **kwargs,
    ) -> Tensor:
        """As :meth:`multi_pos_cross_entropy`, scaled."""
        reduction = self.reduction_for(reduction_override)
        return self.loss_weight * self.multi_pos_cross_entropy(
            cls_score, label, weight, reduction=reduction, avg_factor=avg_factor
        )
