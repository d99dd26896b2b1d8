from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet.ops.compiled import is_exporting
from mmdet.ops.fixed_size import is_symbolic, stacked_numbers


def constant(values: float | Sequence, like: Tensor) -> Tensor:
    """Numbers of the configuration on the device and in the type of ``like``.

    ``like.new_tensor`` lets the host wait until a GPU has done everything before; this does not.
    """
    if is_exporting() and is_symbolic(values):
        return stacked_numbers(values, like)
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
