"""Focal loss on heatmaps with gaussian peaks (CornerNet, arXiv:1808.01244, Eq. 1). Predictions are probabilities."""

from __future__ import annotations

from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .utils import WeightedLoss, weight_reduce_loss, weighted_loss

EPS = 1e-12


def _positive_term(pred: Tensor, alpha: float) -> Tensor:
    return -(pred + EPS).log() * (1 - pred).pow(alpha)


def _negative_term(pred: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    return -(1 - pred + EPS).log() * pred.pow(alpha) * (1 - target).pow(gamma)


@weighted_loss
def gaussian_focal_loss(
    pred: Tensor,
    gaussian_target: Tensor,
    alpha: float = 2.0,
    gamma: float = 4.0,
    pos_weight: float = 1.0,
    neg_weight: float = 1.0,
) -> Tensor:
    """Peaks are where the target is exactly 1; any shape."""
    positive = _positive_term(pred, alpha) * (gaussian_target == 1)
    return pos_weight * positive + neg_weight * _negative_term(pred, gaussian_target, alpha, gamma)


def gaussian_focal_loss_with_pos_inds(
    pred: Tensor,
    gaussian_target: Tensor,
    pos_inds: Tensor,
    pos_labels: Tensor,
    alpha: float = 2.0,
    gamma: float = 4.0,
    pos_weight: float = 1.0,
    neg_weight: float = 1.0,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
    pos_mask: Tensor | None = None,
) -> Tensor:
    """The form of CenterNet2: positives are given, and may share a position.

    Args:
        pred: Shape (N, C).
        gaussian_target: Shape (N, C).
        pos_inds: Rows of the positives, shape (M,).
        pos_labels: Their classes, shape (M,).
        pos_mask: Which of the M count, shape (M,).
    """
    positive = _positive_term(pred[pos_inds, pos_labels][:, None], alpha)
    negative = _negative_term(pred, gaussian_target, alpha, gamma)
    weight = None if pos_mask is None else pos_mask[:, None].to(positive.dtype)
    if reduction == 'none':
        raise UserValueError(
            "Positives and negatives are counted apart: reduction 'none' is not defined with pos_inds."
        )
    positive = weight_reduce_loss(positive, weight, reduction, avg_factor)
    return pos_weight * positive + neg_weight * weight_reduce_loss(negative, None, reduction, avg_factor)


@MODELS.register_module()
class GaussianFocalLoss(WeightedLoss):
    """Focal loss on gaussian heatmaps (arXiv:1808.01244, Eq. 1)."""

    def __init__(
        self,
        alpha: float = 2.0,
        gamma: float = 4.0,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        pos_weight: float = 1.0,
        neg_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight, alpha=alpha, gamma=gamma, pos_weight=pos_weight, neg_weight=neg_weight)

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        pos_inds: Tensor | None = None,
        pos_labels: Tensor | None = None,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        pos_mask: Tensor | None = None,
    ) -> Tensor:
        """With ``pos_inds`` and ``pos_labels`` of shape (M,), ``pred`` and ``target`` have shape (N, C)."""
        shared = {'reduction': self.reduction_for(reduction_override), 'avg_factor': avg_factor, **self.options}
        if pos_inds is None:
            return self.loss_weight * gaussian_focal_loss(pred, target, weight, **shared)
        return self.loss_weight * gaussian_focal_loss_with_pos_inds(
            pred, target, pos_inds, pos_labels, pos_mask=pos_mask, **shared
        )
