"""Focal loss (arXiv:1708.02002, Eq. 5)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .cross_entropy_loss import CustomClassification, one_hot
from .utils import WeightedLoss, column_weight, weight_reduce_loss


def dense_target(pred: Tensor, target: Tensor) -> Tensor:
    """Targets of the shape of ``pred`` (..., C), from class indices too; a label of C is background."""
    if pred.dim() == target.dim():
        return target.to(pred.dtype)
    return one_hot(target, pred.size(-1), pred.dtype)


def _modulated(
    entropy: Tensor,
    probability: Tensor,
    target: Tensor,
    weight: Tensor | None,
    gamma: float,
    alpha: float,
    reduction: str,
    avg_factor: float | Tensor | None,
) -> Tensor:
    miss = (1 - probability) * target + probability * (1 - target)  # 1 - p_t
    balance = alpha * target + (1 - alpha) * (1 - target)
    loss = entropy * balance * miss.pow(gamma)
    if weight is not None:
        same_count = weight.numel() == loss.numel()
        weight = weight.reshape(loss.shape) if same_count else column_weight(weight, loss.dim())
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


# Elements that are worked through at once: on the CPU what its second-level cache holds, elsewhere 64 MiB.
CPU_BLOCK = 2**16
DEVICE_BLOCK = 2**24


class _FocalSum(torch.autograd.Function):
    """Weighted sum of the focal loss of logits ``(N, C)`` and class indices ``(N,)``.

    Nearly all elements are negatives, so every element is treated as one, block by block, and one element a row is put
    right. The gradient comes from the same intermediate values and is all that is kept.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> Tensor:
        count, classes = logits.shape
        by_row = weight is not None and weight.dim() == 1
        element_weight = None if by_row else weight
        want_grad = ctx.needs_input_grad[0]
        grad = torch.empty_like(logits, memory_format=torch.contiguous_format) if want_grad else None
        wide = torch.promote_types(logits.dtype, torch.float32)
        sums = logits.new_empty(count, dtype=wide)
        step = max(1, (CPU_BLOCK if logits.device.type == 'cpu' else DEVICE_BLOCK) // max(1, classes))
        for start in range(0, count, step):
            part = slice(start, start + step)
            loss, slope = _negative(logits[part].to(wide), gamma, alpha, want_grad)
            if element_weight is not None:
                loss *= element_weight[part]
            torch.sum(loss, 1, out=sums[part])
            if grad is not None:
                if weight is not None:
                    slope *= weight[part, None] if by_row else weight[part]
                grad[part] = slope

        index = labels.clamp(0, max(classes - 1, 0))[:, None]
        chosen = logits.gather(1, index)[:, 0].to(wide)
        own_weight = None if element_weight is None else element_weight.gather(1, index)[:, 0]
        factor = ((labels >= 0) & (labels < classes)).to(wide)
        factor = factor if weight is None else factor * (weight if by_row else own_weight)
        negative, down = _negative(chosen, gamma, alpha, True)
        positive, up = _negative(-chosen, gamma, 1 - alpha, True)  # the mirror image
        if by_row:
            sums *= weight
        sums += (positive - negative) * factor
        if grad is not None:
            grad.scatter_add_(1, index, (-(up + down) * factor).to(grad.dtype)[:, None])
            ctx.save_for_backward(grad)
        return sums.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple:
        (grad,) = ctx.saved_tensors
        return grad * scale.to(grad.dtype), None, None, None, None


def _negative(x: Tensor, gamma: float, alpha: float, want_grad: bool) -> tuple[Tensor, Tensor | None]:
    """Focal loss of logits, in single precision at least, as negatives, and its derivative."""
    odds = x.clamp(max=80).exp_()  # p / (1 - p), below the end of the range
    entropy = torch.maximum(odds.log1p(), x)  # -log(1 - p)
    p = odds / (odds + 1)
    modulation = p.pow(gamma).mul_(1 - alpha)
    loss = modulation * entropy
    if not want_grad:
        return loss, None
    slope = torch.addcmul(entropy, entropy, p, value=-1).mul_(gamma).add_(p).mul_(modulation)
    return loss, slope


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
        total = _FocalSum.apply(pred, target, weight, gamma, alpha)
        if avg_factor is None and reduction == 'mean':
            return total / max(pred.numel(), 1)
        return weight_reduce_loss(total, None, reduction, avg_factor)
    target = dense_target(pred, target)
    entropy = F.binary_cross_entropy_with_logits(pred, target, reduction='none')
    return _modulated(entropy, pred.sigmoid(), target, weight, gamma, alpha, reduction, avg_factor)


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
    target = dense_target(pred, target)
    entropy = F.binary_cross_entropy(pred, target, reduction='none')
    return _modulated(entropy, pred, target, weight, gamma, alpha, reduction, avg_factor)


sigmoid_focal_loss = py_sigmoid_focal_loss


@MODELS.register_module()
class FocalLoss(WeightedLoss):
    """Focal loss (arXiv:1708.02002).

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

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """``target``: class indices (N,), C for background, or probabilities (N, C)."""
        function = py_focal_loss_with_prob if self.activated else py_sigmoid_focal_loss
        reduction = self.reduction_for(reduction_override)
        loss = function(pred, target, weight, reduction=reduction, avg_factor=avg_factor, **self.options)
        return self.loss_weight * loss


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
