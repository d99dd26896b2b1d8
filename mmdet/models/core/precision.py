"""The border between networks, which may run in half precision, and results, which are float32."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def as_float32(value: Any) -> Any:
    """A tensor, or lists and tuples of them, with all other kinds of floats made float32; all else as it is."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if type(value) in (list, tuple):
        return type(value)(map(as_float32, value))
    return value


def widened(value: Tensor) -> Tensor:
    """A tensor of half precision as float32, others as they are."""
    return value.float() if value.dtype in HALF else value


def in_float32(function: Callable) -> Callable:
    """``function`` of what networks give, computed in float32 whatever they and autocast say.

    bfloat16 tells 1320 from 1328, and nothing in between: boxes, scores and masks are made of outputs, not by networks.
    """
    if hasattr(function, 'in_float32'):
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        device = next((x.device.type for x in _tensors((args, tuple(kwargs.values())))), 'cpu')
        args, kwargs = as_float32(args), {name: as_float32(value) for name, value in kwargs.items()}
        if not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    call.in_float32 = True  # type: ignore[attr-defined]
    return call


def _tensors(values: Iterable) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif type(value) in (list, tuple):
            yield from _tensors(value)
