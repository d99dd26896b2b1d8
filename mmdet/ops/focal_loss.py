"""Focal loss (arXiv:1708.02002, Eq. 5) on logits (N, C) and class indices (N,)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmdet.errors import UserValueError
from mmdet.ops.compiled import has_triton
from mmdet.ops.one_hot import one_hot


def _reduce(loss: Tensor, reduction: str, count: int) -> Tensor:
    if reduction not in ('none', 'mean', 'sum'):
        raise UserValueError(f"reduction={reduction!r} is none of 'none', 'mean', 'sum'.")
    return loss if reduction == 'none' else loss.sum() / (max(count, 1) if reduction == 'mean' else 1)


def focal_elements(entropy: Tensor, probability: Tensor, target: Tensor | float, gamma: float, alpha: float) -> Tensor:
    """Focal loss of each element from its binary cross entropy, all of one shape."""
    miss = (1 - probability) * target + probability * (1 - target)  # 1 - p_t
    balance = alpha * target + (1 - alpha) * (1 - target)
    return entropy * balance * miss.pow(gamma)


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    """One binary focal loss per class.

    Args:
        target: Class indices; C means background.
        weight: One weight per class of the label, shape (C,).
        reduction: ``'mean'`` divides by N, not by N * C.
    """
    classes = one_hot(target, input.size(1), input.dtype)
    entropy = F.binary_cross_entropy_with_logits(input, classes, reduction='none')
    loss = focal_elements(entropy, input.sigmoid(), classes, gamma, alpha)
    if weight is not None:
        loss = loss * F.pad(weight, (0, 1), value=1)[target.clamp(0, input.size(1))][:, None]
    return _reduce(loss, reduction, len(input))


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    """One focal loss per sample, of the softmax score of its class; negative labels have none.

    Args:
        weight: One weight per class, shape (C,).
    """
    index = target.clamp(min=0)
    log_score = input.log_softmax(1).gather(1, index[:, None])[:, 0]
    loss = focal_elements(-log_score, log_score.exp(), 1, gamma, alpha) * (target >= 0)
    if weight is not None:
        loss = loss * weight[index]
    return _reduce(loss, reduction, len(input))


# Elements that are worked through at once: on the CPU what its second-level cache holds, elsewhere 64 MiB.
CPU_BLOCK = 2**16
DEVICE_BLOCK = 2**24


def focal_loss_sum(logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> Tensor:
    """Sum of the sigmoid focal loss, in one pass through memory and without a second derivative.

    Args:
        labels: Class indices (N,); all others than 0 to C - 1 mean background.
        weight: Shape (N,) or (N, C).
    """
    return _FocalSum.apply(logits, labels, weight, gamma, alpha)


@torch.library.custom_op(
    'mmdet::fused_focal_loss',
    mutates_args=(),
    schema='(Tensor logits, Tensor labels, Tensor? weight, float gamma, float alpha) -> (Tensor, Tensor)',
)
def fused_focal_loss(
    logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, alpha: float
) -> tuple[Tensor, Tensor]:
    """:func:`focal_loss_sum` and its gradient by one kernel, on a GPU."""
    from .focal_loss_kernel import launch

    return launch(logits, labels, weight, gamma, alpha)


@fused_focal_loss.register_fake
def _(logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> tuple[Tensor, Tensor]:
    return logits.new_empty((), dtype=torch.float32), torch.empty_like(logits)


class _FocalSum(torch.autograd.Function):
    """See :func:`focal_loss_sum`.

    Nearly all elements are negatives, so every element is treated as one, block by block, and one element a row is put
    right. The gradient comes from the same intermediate values and is all that is kept.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> Tensor:
        count, classes = logits.shape
        want_grad = ctx.needs_input_grad[0]
        if logits.is_cuda and logits.dtype != torch.float64 and has_triton():
            total, grad = fused_focal_loss(logits, labels, weight, gamma, alpha)
            ctx.save_for_backward(grad)
            return total
        row_weight = weight if weight is not None and weight.dim() == 1 else None
        element_weight = weight if row_weight is None else None
        factors = weight if row_weight is None else row_weight[:, None]
        grad = torch.empty_like(logits, memory_format=torch.contiguous_format) if want_grad else None
        wide = torch.promote_types(logits.dtype, torch.float32)
        sums = logits.new_empty(count, dtype=wide)
        step = max(1, (CPU_BLOCK if logits.device.type == 'cpu' else DEVICE_BLOCK) // max(1, classes))
        for start in range(0, count, step):
            part = slice(start, start + step)
            negative = _Negative(logits[part].to(wide), gamma, alpha)
            loss = negative.loss()
            if element_weight is not None:
                loss *= element_weight[part]
            torch.sum(loss, 1, out=sums[part])
            if grad is not None:
                slope = negative.slope()
                if factors is not None:
                    slope *= factors[part]
                grad[part] = slope

        index = labels.clamp(0, max(classes - 1, 0))[:, None]
        chosen = logits.gather(1, index)[:, 0].to(wide)
        factor = ((labels >= 0) & (labels < classes)).to(wide)
        if row_weight is not None:
            factor = factor * row_weight
        elif element_weight is not None:
            factor = factor * element_weight.gather(1, index)[:, 0]
        negative = _Negative(chosen, gamma, alpha)
        positive = _Negative(-chosen, gamma, 1 - alpha)  # the mirror image
        if row_weight is not None:
            sums *= row_weight
        sums += (positive.loss() - negative.loss()) * factor
        if grad is not None:
            grad.scatter_add_(1, index, (-(positive.slope() + negative.slope()) * factor).to(grad.dtype)[:, None])
            ctx.save_for_backward(grad)
        return sums.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple:
        (grad,) = ctx.saved_tensors
        return grad * scale.to(grad.dtype), None, None, None, None


class _Negative:
    """Focal loss of logits, in single precision at least, as negatives, and its derivative."""

    def __init__(self, x: Tensor, gamma: float, alpha: float) -> None:
        odds = x.clamp(max=80).exp_()  # p / (1 - p), below the end of the range
        self.entropy = torch.maximum(odds.log1p(), x)  # -log(1 - p)
        self.probability = odds / (odds + 1)
        self.modulation = self.probability.pow(gamma).mul_(1 - alpha)
        self.gamma = gamma

    def loss(self) -> Tensor:
        return self.modulation * self.entropy

    def slope(self) -> Tensor:
        slope = torch.addcmul(self.entropy, self.entropy, self.probability, value=-1)
        return slope.mul_(self.gamma).add_(self.probability).mul_(self.modulation)


class SigmoidFocalLoss(nn.Module):
    """See :func:`sigmoid_focal_loss`."""

    function = staticmethod(sigmoid_focal_loss)
    weight: Tensor | None

    def __init__(self, gamma: float, alpha: float, weight: Tensor | None = None, reduction: str = 'mean') -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.register_buffer('weight', weight)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits ``(N, C)`` and labels ``(N,)``."""
        return self.function(input, target, self.gamma, self.alpha, self.weight, self.reduction)

    def extra_repr(self) -> str:
        return f'gamma={self.gamma}, alpha={self.alpha}, reduction={self.reduction}'


class SoftmaxFocalLoss(SigmoidFocalLoss):
    """See :func:`softmax_focal_loss`."""

    function = staticmethod(softmax_focal_loss)
