"""Focal loss (arXiv:1708.02002, Eq. 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.ops.focal_loss import focal_elements, focal_loss_sum, focal_loss_sums
from mmdet.ops.one_hot import one_hot
from mmdet.registry import MODELS

from .cross_entropy_loss import CustomClassification, binary_entropy
from .utils import WeightedLoss, column_weight, weight_reduce_loss


def dense_target(pred: Tensor, target: Tensor) -> Tensor:
    """Targets of the shape of ``pred`` (..., C), from class indices too; a label of C is background."""
    if pred.dim() == target.dim():
        return target.to(pred.dtype)
    return one_hot(target, pred.size(-1), pred.dtype)


def _elementwise(
    pred: Tensor,
    target: Tensor,
    activated: bool,
    weight: Tensor | None,
    gamma: float,
    alpha: float,
    reduction: str,
    avg_factor: float | Tensor | None,
) -> Tensor:
    target = dense_target(pred, target)
    probability, entropy = binary_entropy(pred, target, activated)
    loss = focal_elements(entropy, probability, target, gamma, alpha)
    if weight is not None:
        same_count = weight.numel() == loss.numel()
        weight = weight.reshape(loss.shape) if same_count else column_weight(weight, loss.dim())
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def py_sigmoid_focal_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float = 0.25,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """Focal loss of logits (N, C).

    Args:
        target: Class indices (N,), C for background, or probabilities (N, C).
        weight: Shape (N,) or (N, C).

    The sum or mean over class indices of eager code takes one pass through memory, and has no second derivative.
    """
    fixed_weight = weight is None or (not weight.requires_grad and weight.shape in (pred.shape[:1], pred.shape))
    by_index = pred.dim() == 2 and target.dim() == 1 and not target.is_floating_point()
    if reduction != 'none' and by_index and fixed_weight and not torch.compiler.is_compiling():
        total = focal_loss_sum(pred, target, weight, gamma, alpha)
        if avg_factor is None and reduction == 'mean':
            return total / max(pred.numel(), 1)
        return weight_reduce_loss(total, None, reduction, avg_factor)
    return _elementwise(pred, target, False, weight, gamma, alpha, reduction, avg_factor)


def py_focal_loss_with_prob(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float = 0.25,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """As :func:`py_sigmoid_focal_loss`, of probabilities."""
    return _elementwise(pred, target, True, weight, gamma, alpha, reduction, avg_factor)


sigmoid_focal_loss = py_sigmoid_focal_loss


@MODELS.register_module()
class FocalLoss(WeightedLoss):
    """Focal loss (arXiv:1708.02002) of predictions ``(N, C)`` and class indices ``(N,)``, C for background, or
    probabilities ``(N, C)``.

    Args:
        use_sigmoid: Only True is defined for detection.
        activated: Predictions are probabilities, not logits.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        gamma: float = 2.0,
        alpha: float = 0.25,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        if not use_sigmoid:
            raise UserValueError('FocalLoss is defined with use_sigmoid=True only.')
        super().__init__(reduction, loss_weight, gamma=gamma, alpha=alpha)
        self.use_sigmoid = use_sigmoid
        self.activated = activated
        self.function = py_focal_loss_with_prob if activated else py_sigmoid_focal_loss

    @property
    def layer_sums(self) -> Callable | None:
        """Weighted sums of L layers, ``(pred (L, ..., C), target (L, ...), weight (L, ...)) -> (L,)``, in one pass;
        None where the loss is not as it stands here, or not of logits."""
        own = type(self) is not FocalLoss or self.function is not py_sigmoid_focal_loss or self.reduction != 'mean'
        return None if own or torch.compiler.is_compiling() else self._layer_sums

    def _layer_sums(self, pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return focal_loss_sums(pred, target, weight * self.loss_weight, self.gamma, self.alpha)


@MODELS.register_module()
class FocalCustomLoss(CustomClassification, FocalLoss):
    """Focal loss that tells its head how to lay out, activate and judge the scores."""

    def __init__(
        self,
        use_sigmoid: bool = True,
        num_classes: int = -1,
        gamma: float = 2.0,
        alpha: float = 0.25,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__(use_sigmoid, gamma, alpha, reduction, loss_weight, activated)
        self.num_classes = num_classes
        self._check_num_classes()
