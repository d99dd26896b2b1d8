"""The form in which a detector is used, made of the one in which it is trained."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmdet.errors import UserRuntimeError, UserTypeError, UserValueError

from .acceleration import fold_batch_norms


def deploy(model: nn.Module, size: Sequence[int] | None = None) -> nn.Module:
    """Make a detector ready for use, in place: the same outputs from fewer operations.

    One walk calls ``deploy()`` of every module that has one. So convolutions that were several while training become
    one, and what serves in training alone goes: queries for denoising, further groups of queries, branches and layers
    that do not detect. Batch norms are folded into the convolutions before them. It cannot be trained any more, and
    ``state_dict()`` has other names.

    Args:
        model: A detector, or any part of one. Custom modules take part with a method ``deploy()`` without arguments,
            which is called once, children first.
        size: Height and width of the inputs that are to come, with their padding, for which boxes around cells are
            kept. Inputs of other sizes stay possible.

    Returns:
        The model, in evaluation mode.
    """
    if not isinstance(model, nn.Module):
        raise UserTypeError(f'deploy takes a built model, got {type(model).__name__}')
    shape = None if size is None else tuple(size)
    if shape is not None and (len(shape) != 2 or min(shape) < 1):
        raise UserValueError(f'size of deploy must be height and width in pixels, got {size!r}')
    model.eval()
    if getattr(model, 'is_deployed', False):
        raise UserRuntimeError('this model has been deployed already')
    for module in reversed(list(model.modules())):  # parents come before their children
        method = getattr(module, 'deploy', None)
        if callable(method) and not _takes_arguments(method):
            method()
    fold_batch_norms(model)
    if shape is not None:
        _fix(model, shape)
    model.requires_grad_(False)
    model.is_deployed = True  # type: ignore[assignment]
    if hasattr(model, 'loss'):
        model.loss = _no_loss  # type: ignore[assignment]
    return model


def _takes_arguments(method: Any) -> bool:
    """Whether a parent calls it, as a detector does that of its head."""
    return any(value.default is value.empty for value in inspect.signature(method).parameters.values())


def _fix(model: nn.Module, size: tuple[int, int]) -> None:
    fix = getattr(model, 'fix_cells', None)
    if fix is None:
        return
    some = next(model.parameters())
    with torch.no_grad():
        maps = model.extract_feat(some.new_zeros(1, 3, *size))  # type: ignore[operator]
    fix([tuple(level.shape[-2:]) for level in maps])


def _no_loss(*args: Any, **kwargs: Any) -> None:
    raise UserRuntimeError('a deployed model cannot be trained: build it anew and load the weights of training')
