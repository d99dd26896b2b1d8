"""The levels of a feature pyramid as one axis of priors.

Letters: B images, P priors of all levels in the order level, y, x, anchor, A anchors per location, D values per prior.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor


def flatten_levels(levels: Sequence[Tensor], dim: int) -> Tensor:
    """Level maps ``[(B, A * dim, H, W), ...]`` as one ``(B, P, dim)``."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, dim) for level in levels], 1)


def flatten_outputs(*outputs: tuple[Sequence[Tensor], int]) -> list[Tensor]:
    """:func:`flatten_levels` of each pair of level maps and values per prior."""
    return [flatten_levels(levels, dim) for levels, dim in outputs]


def multi_apply(func: Callable, *args: Sequence, **kwargs: Any) -> tuple[list, ...]:
    """Map ``func`` over zipped ``args``, such as levels, and transpose: one list for each value that it returns."""
    call = partial(func, **kwargs) if kwargs else func
    return tuple(map(list, zip(*map(call, *args))))


def split_levels(flat: Tensor, sizes: Sequence[int], dim: int = 1) -> list[Tensor]:
    """The inverse of the concatenation over levels."""
    return list(flat.split(list(sizes), dim))


def map_sizes(levels: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Height and width of each level map."""
    return [(level.shape[-2], level.shape[-1]) for level in levels]


@dataclass
class Priors:
    """Anchors or points of all levels.

    Attributes:
        boxes: ``(1, P, 4)`` xyxy in pixels of the network input, or ``(1, P, 2)`` points; first axis B where every
            image has priors of its own.
        valid: ``(B, P)`` bool, False where a prior lies on padding or too far outside the image.
        level_sizes: Priors of each level.
    """

    boxes: Tensor
    valid: Tensor
    level_sizes: list[int]
    strides: Sequence[int | float] | None = None
    _stride: Tensor | None = field(default=None, repr=False)

    @property
    def stride(self) -> Tensor:
        """``(P,)`` stride of each prior's level in pixels."""
        if self._stride is None:
            assert self.strides is not None
            self._stride = per_level(self.strides, self.level_sizes, self.boxes)
        return self._stride

    def expanded(self) -> Tensor:
        """``(B, P, 4)``, a view."""
        return self.boxes.expand(len(self.valid), -1, -1)


def per_level(values: Sequence, sizes: Sequence[int], like: Tensor) -> Tensor:
    """One value, or one tuple of values, of each level repeated for its priors, ``(P, ...)``; no copy from the host."""
    parts = []
    for value, size in zip(values, sizes):
        if isinstance(value, (tuple, list)):
            parts.append(torch.stack([like.new_full((size,), float(v)) for v in value], -1))
        else:
            parts.append(like.new_full((size,), float(value)))
    return torch.cat(parts)


class PriorCache:
    """The last few grids of priors, by what determined them. Never part of a state dict, a copy or a pickle."""

    def __init__(self, size: int = 16) -> None:
        self._size = size
        self._changing = threading.Lock()
        self._grids: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` returned for ``key``, made where it is not known."""
        # Fake tensors, compiled or exported graphs must not meet real tensors of an earlier call, nor leave theirs.
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return make()
        key = (key, torch.is_inference_mode_enabled())  # inference tensors cannot take part in training
        grid = self._grids.get(key)  # another thread may drop it meanwhile
        if grid is None:
            grid = make()
            with self._changing:
                self._grids[key] = grid
                if len(self._grids) > self._size:
                    self._grids.popitem(last=False)
        return grid

    def __deepcopy__(self, memo: dict) -> PriorCache:
        return PriorCache(self._size)

    def __reduce__(self) -> tuple:
        return PriorCache, (self._size,)
