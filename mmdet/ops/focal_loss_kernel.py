"""The kernel of :func:`mmdet.ops.focal_loss.focal_loss_sum`, for GPUs. Without Triton there is none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .triton_jit import jit, tl, triton

BLOCK, WARPS = 4096, 8


def launch(logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> tuple[Tensor, Tensor]:
    """Weighted sum of the focal loss of logits ``(N, C)``, and its gradient; each logit is read once.

    Args:
        labels: Class indices (N,); all others than 0 to C - 1 mean background.
        weight: Shape (N,) or (N, C).
    """
    logits = logits.contiguous()
    count = logits.numel()
    blocks = triton.cdiv(count, BLOCK)
    sums = torch.zeros(blocks, dtype=torch.float32, device=logits.device)
    grad = torch.empty_like(logits)
    factors = logits if weight is None else weight.contiguous()
    by_row = weight is not None and weight.dim() == 1
    kernel[(blocks,)](
        logits, labels.contiguous(), factors, grad, sums, count, gamma, alpha, CLASSES=logits.shape[1],
        WEIGHTS=0 if weight is None else 1 if by_row else 2, SQUARE=gamma == 2.0,
        BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return sums.sum(), grad


def _focal(
    logits,
    labels,
    weight,
    grad,
    sums,
    count,
    gamma,
    alpha,
    CLASSES: tl.constexpr,
    WEIGHTS: tl.constexpr,
    SQUARE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``BLOCK`` elements in a row: a positive is a negative of the opposite logit with the opposite balance."""
    block = tl.program_id(0).to(tl.int64)
    start = block * BLOCK
    place = start + tl.arange(0, BLOCK)
    exists = place < count
    # 32 bits and a constant divisor: other divisions would take longer than all the rest.
    first = start // CLASSES
    inside = (start - first * CLASSES).to(tl.int32) + tl.arange(0, BLOCK)
    step = inside // CLASSES
    row = first + step
    label = tl.load(labels + row, mask=exists, other=-1)
    positive = label == inside - step * CLASSES
    x = tl.load(logits + place, mask=exists, other=0.0).to(tl.float32)
    x = tl.where(positive, -x, x)
    balance = tl.where(positive, alpha, 1.0 - alpha)

    small = tl.exp(-tl.abs(x))
    series = small * (1.0 - small * (0.5 - small * (0.33333334 - small * 0.25)))
    entropy = tl.maximum(x, 0.0) + tl.where(small < 0.01, series, tl.log(1.0 + small))  # -log(1 - p)
    p = tl.where(x >= 0, 1.0, small) / (1.0 + small)
    if SQUARE:
        modulation = balance * p * p
    else:
        modulation = balance * tl.exp(gamma * tl.log(tl.maximum(p, 1e-37)))
    factor = tl.where(exists, 1.0, 0.0)
    if WEIGHTS == 1:
        factor = tl.load(weight + row, mask=exists, other=0.0).to(tl.float32)
    if WEIGHTS == 2:
        factor = tl.load(weight + place, mask=exists, other=0.0).to(tl.float32)
    tl.store(sums + block, tl.sum(modulation * entropy * factor, 0))
    slope = modulation * (gamma * (1.0 - p) * entropy + p) * factor
    tl.store(grad + place, tl.where(positive, -slope, slope).to(grad.dtype.element_ty), mask=exists)


kernel: Any = jit(_focal, do_not_specialize=['count'])
