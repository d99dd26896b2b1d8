"""Whether results have to be of a size that is known without looking at data, as in exported graphs.

Letters: B images, K candidates, M results.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class FixedSize:
    """How results are padded.

    Attributes:
        max_num: M where a model does not say how many detections of an image are kept.
        candidates: Most pairs of region and class of an image that a second stage looks at.
        operator: Whether suppression is left to the operator ``mmdet::greedy_nms``, for which a format has its own, in
            place of a loop.
    """

    max_num: int = 300
    candidates: int = 4096
    operator: bool = False


_current: ContextVar[FixedSize | None] = ContextVar('fixed_size', default=None)


@contextmanager
def fixed_size(options: FixedSize | None = None) -> Iterator[None]:
    """Within it, the images of a batch are of one size and are predicted as one: a batch has one meta information and
    one result, whose fields are ``(B, M, ...)``. Places without a detection have score 0 and label -1."""
    token = _current.set(options or FixedSize())
    try:
        yield
    finally:
        _current.reset(token)


def is_fixed_size() -> bool:
    """Whether :func:`fixed_size` is on."""
    return _current.get() is not None


def fixed_options() -> FixedSize:
    """Of the :func:`fixed_size` that is on, or of one by default."""
    return _current.get() or FixedSize()


def is_at_hand(x: Tensor) -> bool:
    """Whether a look at the values costs no wait: those of a plain tensor on a CPU, not of a graph or on a GPU."""
    return x.is_cpu and type(x) is Tensor


def is_symbolic(*sizes: Any) -> bool:
    """Whether one of the sizes, or of those in lists of them, is not known while a graph is traced."""
    return any(
        is_symbolic(*size) if isinstance(size, (list, tuple)) else isinstance(size, (torch.SymInt, torch.SymFloat))
        for size in sizes
    )


def stacked_numbers(values: Any, like: Tensor) -> Tensor:
    """Numbers and sizes, or lists of them, on the device and in the type of ``like``, also in a graph."""
    if isinstance(values, (list, tuple)):
        return torch.stack([stacked_numbers(value, like) for value in values])
    if isinstance(values, (torch.SymInt, torch.SymFloat)):  # ONNX does not see the type that is asked for, but a change
        kind = torch.int64 if isinstance(values, torch.SymInt) else torch.float64
        return torch.scalar_tensor(values, dtype=kind, device=like.device).to(like.dtype)
    return torch.scalar_tensor(values, dtype=like.dtype, device=like.device)


def at_least(value: Tensor, count: int, fill: float) -> Tensor:
    """``value (B, K, ...)`` with ``count`` more places of ``fill``, unless K is known and no less than that."""
    if not is_symbolic(value.shape[1]) and value.shape[1] >= count:
        return value
    more = count if is_symbolic(value.shape[1]) else count - value.shape[1]
    return F.pad(value, (0, 0) * (value.dim() - 2) + (0, more), value=fill)
