"""How every loss is weighted, reduced and scaled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.errors import UserValueError

REDUCTIONS = ('none', 'mean', 'sum')


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """``loss`` as it is, its mean or its sum; the mean of nothing is a zero with a gradient."""
    if reduction not in REDUCTIONS:
        raise UserValueError(f'reduction={reduction!r} is none of {", ".join(map(repr, REDUCTIONS))}.')
    if reduction == 'none':
        return loss
    return loss.mean() if reduction == 'mean' and loss.numel() else loss.sum()


def weight_reduce_loss(
    loss: Tensor,
    weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """Multiply by ``weight`` and reduce.

    Args:
        loss: Elementwise loss.
        weight: Broadcastable to ``loss``; zeros mask elements out.
        avg_factor: What ``'mean'`` divides the sum by, in place of the number of elements. A tensor stays on its
            device. Not allowed with ``'sum'``.
    """
    if weight is not None:
        if weight.dim() == loss.dim() == 1 < len(weight) and len(weight) != len(loss):
            raise UserValueError(f'{len(weight)} weights for {len(loss)} losses.')
        loss = loss * weight
    if avg_factor is None or reduction == 'none':
        return reduce_loss(loss, reduction)
    if reduction != 'mean':
        raise UserValueError(f'avg_factor cannot be used with reduction={reduction!r}.')
    return loss.sum() / (avg_factor + torch.finfo(torch.float32).eps)  # an all-negative batch has avg_factor 0


def weighted_loss(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Give an elementwise ``loss_func(pred, target, **options)`` the arguments of :func:`weight_reduce_loss`.

    Example:
        >>> @weighted_loss
        ... def l1_loss(pred, target):
        ...     return (pred - target).abs()
        >>> l1_loss(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]), avg_factor=2)
        tensor(0.5000)
    """

    @functools.wraps(loss_func)
    def wrapper(
        pred: Tensor,
        target: Any,
        weight: Tensor | None = None,
        reduction: str = 'mean',
        avg_factor: float | Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        return weight_reduce_loss(loss_func(pred, target, **options), weight, reduction, avg_factor)

    return wrapper


def regression_loss(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As :func:`weighted_loss`, for a loss of predictions and targets of one shape.

    Raises:
        ValueError: if the shapes differ, which would broadcast.
    """
    weighted = weighted_loss(loss_func)

    @functools.wraps(loss_func)
    def wrapper(pred: Tensor, target: Tensor, *args: Any, **options: Any) -> Tensor:
        check_same_shape(pred, target)
        return weighted(pred, target, *args, **options)

    return wrapper


def check_same_shape(pred: Tensor, target: Tensor) -> None:
    """Hold that both have one shape.

    Raises:
        ValueError: with both shapes.
    """
    if pred.shape != target.shape:
        raise UserValueError(f'Predictions {tuple(pred.shape)} and targets {tuple(target.shape)} differ in shape.')


def column_weight(weight: Tensor | None, ndim: int) -> Tensor | None:
    """A weight per sample, shaped to multiply losses of ``ndim`` dimensions."""
    if weight is not None and weight.dim() < ndim:
        return weight.reshape(*weight.shape, *(1,) * (ndim - weight.dim()))
    return weight


class WeightedLoss(nn.Module):
    """A weighted loss function as a module with a scale.

    A subclass sets ``function`` and passes to ``__init__`` the options that it wants handed on in every call.
    """

    function: Callable[..., Tensor]

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0, **options: Any) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise UserValueError(
                f'reduction={reduction!r} of {type(self).__name__} is none of {", ".join(REDUCTIONS)}.'
            )
        self.reduction = reduction
        self.loss_weight = loss_weight
        self._options = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    @property
    def options(self) -> dict[str, Any]:
        """What ``function`` is given in every call, from the attributes of these names."""
        return {name: getattr(self, name) for name in self._options}

    def reduction_for(self, override: str | None) -> str:
        """The reduction of this call.

        Raises:
            ValueError: if ``override`` is not a reduction.
        """
        if override is not None and override not in REDUCTIONS:
            raise UserValueError(f'reduction_override={override!r} is none of None, {", ".join(REDUCTIONS)}.')
        return override or self.reduction

    def forward(
        self,
        pred: Tensor,
        target: Any,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The loss, weighted, reduced and scaled.

        Args:
            weight: A factor for each element, of a shape that broadcasts to that of the loss.
            avg_factor: What the sum is divided by under ``'mean'``, in place of the number of elements.
            reduction_override: In place of the module's ``reduction``.
            kwargs: Further arguments of ``function``.

        Raises:
            ValueError: if ``reduction_override`` is not a reduction.
        """
        reduction = self.reduction_for(reduction_override)
        options = {**self.options, **kwargs}
        weight = self.shaped_weight(pred, weight)
        return self.loss_weight * self.function(
            pred, target, weight, reduction=reduction, avg_factor=avg_factor, **options
        )

    def shaped_weight(self, pred: Tensor, weight: Tensor | None) -> Tensor | None:
        """``weight`` as ``function`` takes it."""
        return weight

    def extra_repr(self) -> str:
        options = {'reduction': self.reduction, 'loss_weight': self.loss_weight, **self.options}
        return ', '.join(f'{name}={value!r}' for name, value in options.items())
