from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet.ops.fixed_size import is_symbolic


def constant(values: float | Sequence, like: Tensor) -> Tensor:
    """Numbers of the configuration on the device and in the type of ``like``.

    ``like.new_tensor`` lets the host wait until a GPU has done everything before; this does not.
    """
    if torch.compiler.is_exporting() and is_symbolic(values):
        return _stacked(values, like)
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _stacked(values: Any, like: Tensor) -> Tensor:
    if isinstance(values, (list, tuple)):
        return torch.stack([_stacked(value, like) for value in values])
    if isinstance(values, (torch.SymInt, torch.SymFloat)):  # ONNX does not see the type that is asked for, but a change
        kind = torch.int64 if isinstance(values, torch.SymInt) else torch.float64
        return torch.scalar_tensor(values, dtype=kind, device=like.device).to(like.dtype)
    return torch.scalar_tensor(values, dtype=like.dtype, device=like.device)
