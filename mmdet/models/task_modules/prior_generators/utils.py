from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class GridCache:
    """The last few grids that a generator made, by what determined them. Never part of a state dict."""

    def __init__(self, size: int = 16) -> None:
        self._size = size
        self._grids: OrderedDict[Hashable, object] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], object]):
        # Fake tensors, compiled or exported graphs must not meet real tensors of an earlier call, nor leave theirs.
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return make()
        key = (key, torch.is_inference_mode_enabled())  # inference tensors cannot take part in training
        if key not in self._grids:
            self._grids[key] = make()
            if len(self._grids) > self._size:
                self._grids.popitem(last=False)
        return self._grids[key]

    def __deepcopy__(self, memo) -> GridCache:
        return GridCache(self._size)

    def __reduce__(self):
        return GridCache, (self._size,)


def meshgrid(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of ``x`` and ``y`` in row-major order, each ``(len(y) * len(x),)``."""
    return x.repeat(len(y)), y[:, None].expand(-1, len(x)).reshape(-1)


def valid_grid(size: tuple[int, int], valid: tuple[int, int], num_base: int, device: torch.device | str) -> Tensor:
    """``(H * W * num_base,)`` bool: which locations lie in the first ``valid`` rows and columns."""
    rows = torch.arange(size[0], device=device) < valid[0]
    columns = torch.arange(size[1], device=device) < valid[1]
    return (rows[:, None] & columns).reshape(-1, 1).expand(-1, num_base).reshape(-1)
