"""Focal loss (arXiv:1708.02002, Eq. 5) on logits (N, C) and class indices (N,)."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmdet.errors import UserValueError
from mmdet.ops.compiled import has_triton
from mmdet.ops.fixed_size import is_at_hand
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


# Elements that are worked through at once: on the CPU what the caches hold, for each thread; elsewhere 64 MiB.
CPU_BLOCK = 2**18
DEVICE_BLOCK = 2**24


def focal_loss_sum(logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> Tensor:
    """Sum of the sigmoid focal loss, in one pass through memory and without a second derivative.

    Args:
        labels: Class indices (N,); all others than 0 to C - 1 mean background.
        weight: Shape (N,) or (N, C).
    """
    if _has_kernel(logits):
        return _FusedSum.apply(logits, labels, weight, gamma, alpha)
    return _FocalSums.apply(logits[None], labels[None], None if weight is None else weight[None], gamma, alpha)[0]


def focal_loss_sums(logits: Tensor, labels: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """``(L,)`` sums as :func:`focal_loss_sum` of L layers.

    Args:
        logits: ``(L, ..., C)``.
        labels, weight: ``(L, ...)``.
    """
    if _has_kernel(logits):
        layers = zip(logits.flatten(1, -2), labels.flatten(1), weight.flatten(1))
        return torch.stack([_FusedSum.apply(*layer, gamma, alpha) for layer in layers])
    return _FocalSums.apply(logits, labels, weight, gamma, alpha)


def _has_kernel(logits: Tensor) -> bool:
    return logits.is_cuda and logits.dtype != torch.float64 and has_triton()


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


def _all_places(x: Tensor) -> tuple[Tensor, ...]:
    """An index of every element."""
    return torch.meshgrid(*(torch.arange(size, device=x.device) for size in x.shape), indexing='ij')


class _FusedSum(torch.autograd.Function):
    """See :func:`focal_loss_sum`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> Tensor:
        total, grad = fused_focal_loss(logits, labels, weight, gamma, alpha)
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple:
        (grad,) = ctx.saved_tensors
        return grad * scale.to(grad.dtype), None, None, None, None


class _FocalSums(torch.autograd.Function):
    """``(L,)`` sums of the loss of ``(L, ..., C)``; ``weight`` is ``(L, ...)`` or ``(L, ..., C)``.

    Nearly all elements are negatives, so every element is treated as one, block by block, and one element a row is put
    right. The gradient comes from the same intermediate values and is all that is kept.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> Tensor:
        classes = logits.shape[-1]
        wide = torch.promote_types(logits.dtype, torch.float32)
        grad = None
        if ctx.needs_input_grad[0]:
            grad = torch.empty_like(logits, memory_format=torch.contiguous_format)
            ctx.save_for_backward(grad)
        if weight is None:
            weight = labels.new_ones(labels.shape, dtype=wide)
        weight = (weight if weight.dim() == logits.dim() else weight[..., None]).to(wide)
        others = weight * (1 - alpha)
        sums = logits.new_empty(labels.shape, dtype=wide)
        block = CPU_BLOCK * torch.get_num_threads() if logits.device.type == 'cpu' else DEVICE_BLOCK
        step = max(1, block // max(1, logits[:1, :1].numel()))
        for layer, start in itertools.product(range(len(logits)), range(0, logits.shape[1], step)):
            part = layer, slice(start, start + step)
            slope = None if grad is None else grad[part]
            torch.sum(focal_of_negatives(logits[part].to(wide), gamma, others[part], slope), -1, out=sums[part])

        # On a CPU, which knows where they are, only positives are put right; elsewhere one element of every row.
        positive = (labels >= 0) & (labels < classes)
        rows = positive.nonzero(as_tuple=True) if is_at_hand(logits) else _all_places(labels)
        place = *rows, labels[rows].clamp(0, max(classes - 1, 0))
        weight = weight.expand_as(logits)[place] * positive[rows]
        chosen = logits[place].to(wide)
        slope, mirrored_slope = torch.empty_like(chosen), torch.empty_like(chosen)
        loss = focal_of_negatives(chosen, gamma, weight * (1 - alpha), slope)
        mirrored = focal_of_negatives(-chosen, gamma, weight * alpha, mirrored_slope)  # a positive is the mirror image
        sums[rows] += mirrored - loss
        if grad is not None:
            grad[place] -= (mirrored_slope + slope).to(grad.dtype)
        return sums.flatten(1).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple:
        (grad,) = ctx.saved_tensors
        if not is_at_hand(scale) or not scale.eq(1).all():  # in most steps of training it is, which saves a pass
            grad = grad * scale.to(grad.dtype).view(-1, *[1] * (grad.dim() - 1))
        return grad, None, None, None, None


def focal_of_negatives(x: Tensor, gamma: float, factor: Tensor, slope: Tensor | None) -> Tensor:
    """Focal loss of logits, in single precision at least, as negatives, times ``factor``. Its derivative goes into
    ``slope``."""
    entropy = F.softplus(x, threshold=40)  # -log(1 - p)
    probability = x.sigmoid()
    modulation = probability.pow(gamma).mul_(factor)
    loss = modulation * entropy
    if slope is not None:
        entropy.addcmul_(entropy, probability, value=-1)
        torch.mul(torch.add(probability, entropy, alpha=gamma), modulation, out=slope)
    return loss


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
