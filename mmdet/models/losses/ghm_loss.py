"""Gradient harmonizing mechanism (arXiv:1811.05181): every bin of gradient norms gets the same total weight."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .cross_entropy_loss import binary_entropy
from .focal_loss import dense_target
from .utils import WeightedLoss, column_weight, weight_reduce_loss


class GradientHarmonizing(WeightedLoss):
    """Bins of the gradient norm, and the running count of examples in each (Sec. 3.4, "Exponential Moving Average")."""

    by_level = True
    """Whether a head computes the loss level by level: bins are filled, and the average moves, once a level."""

    edges: Tensor

    def __init__(self, bins: int, momentum: float, last_edge: float, loss_weight: float, reduction: str) -> None:
        super().__init__(reduction, loss_weight, bins=bins, momentum=momentum)
        edges = torch.arange(bins + 1).float() / bins
        edges[-1] = last_edge
        self.register_buffer('edges', edges)
        if momentum > 0:
            self.register_buffer('acc_sum', torch.zeros(bins))

    @torch.no_grad()
    def density_weights(self, gradient: Tensor, valid: Tensor, total: Tensor) -> Tensor:
        """Weights that are inverse to the gradient density (Eq. 8).

        Args:
            gradient: Gradient norms, shape (N, C).
            valid: Elements that count, shape (N, C).
            total: Number of examples, 0-d.
        """
        # A checkpoint may hold any edges: an element belongs to the last bin around it. Between two neighbours among
        # the sorted edges that is one and the same bin.
        borders = self.edges.sort().values
        segment = torch.bucketize(gradient.to(borders), borders, right=True)
        # Integers, counted per row first: floats stop counting at 2 ** 24, and few rows share a counter.
        counts = torch.zeros(len(gradient), self.bins + 2, dtype=torch.int32, device=gradient.device)
        counts = counts.scatter_add_(1, segment, valid.int()).sum(0)
        low = torch.cat([borders[:1] - 1, borders])
        inside = (self.edges[:-1, None] <= low) & (low < self.edges[1:, None])  # (bins, bins + 2)
        count = (inside * counts).sum(1)
        occupied = count > 0
        density = count.to(self.edges.dtype)
        if self.momentum > 0:
            mean = self.momentum * self.acc_sum + (1 - self.momentum) * density
            self.acc_sum.copy_(torch.where(occupied, mean, self.acc_sum))
            density = self.acc_sum
        weight = torch.where(occupied, total / density.clamp(min=torch.finfo(density.dtype).tiny), 0)
        weight = weight / occupied.sum().clamp(min=1)
        order = torch.arange(1, self.bins + 1, device=weight.device)[:, None]
        last = (inside * order).amax(0)  # 0 where no bin is
        return torch.cat([weight.new_zeros(1), weight])[last][segment] * valid


@MODELS.register_module()
class GHMC(GradientHarmonizing):
    """Classification loss, Sec. 3.3.

    Args:
        bins: Number of unit regions.
        momentum: Of the moving average of the counts; 0 for none.
    """

    def __init__(
        self,
        bins: int = 10,
        momentum: float = 0,
        use_sigmoid: bool = True,
        loss_weight: float = 1.0,
        reduction: str = 'mean',
    ) -> None:
        if not use_sigmoid:
            raise UserValueError('GHMC is defined with use_sigmoid=True only.')
        super().__init__(bins, momentum, 1 + 1e-6, loss_weight, reduction)
        self.use_sigmoid = use_sigmoid

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        label_weight: Tensor | None = None,
        reduction_override: str | None = None,
        **kwargs,
    ) -> Tensor:
        """Loss of logits (N, C) and class indices (N,) or binary targets (N, C); zero weights take elements out."""
        label_weight = torch.ones_like(pred) if label_weight is None else label_weight
        target = dense_target(pred, target)
        valid = column_weight(label_weight > 0, pred.dim()).expand_as(pred)
        total = valid.sum().clamp(min=1).to(pred.dtype)
        probability, loss = binary_entropy(pred, target)
        gradient = (probability.detach() - target).abs()
        rows = lambda x: x.reshape(-1, pred.size(-1)) if pred.dim() > 1 else x[:, None]
        weight = self.density_weights(rows(gradient), rows(valid), total).reshape(pred.shape)
        return self.loss_weight * _reduce(loss, weight, self.reduction_for(reduction_override), total)


@MODELS.register_module()
class GHMR(GradientHarmonizing):
    """Regression loss, Sec. 3.5.

    Args:
        mu: Of the authentic smooth L1 loss (Eq. 13).
        bins: Number of unit regions.
        momentum: Of the moving average of the counts; 0 for none.
    """

    def __init__(
        self,
        mu: float = 0.02,
        bins: int = 10,
        momentum: float = 0,
        loss_weight: float = 1.0,
        reduction: str = 'mean',
    ) -> None:
        super().__init__(bins, momentum, 1e3, loss_weight, reduction)
        self.mu = mu

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        label_weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Loss of deltas (N, 4); ``avg_factor`` has no part in it, the weights count for themselves."""
        label_weight = torch.ones_like(pred) if label_weight is None else label_weight
        difference = pred - target
        length = (difference.square() + self.mu**2).sqrt()
        gradient = (difference / length).abs().detach()
        weight = column_weight(label_weight, pred.dim()).expand_as(pred)
        total = weight.sum().clamp(min=1).to(pred.dtype)
        weight = self.density_weights(gradient, weight > 0, total)
        return self.loss_weight * _reduce(length - self.mu, weight, self.reduction_for(reduction_override), total)


def _reduce(loss: Tensor, weight: Tensor, reduction: str, total: Tensor) -> Tensor:
    return weight_reduce_loss(loss, weight.to(loss.dtype), reduction, total if reduction == 'mean' else None)
