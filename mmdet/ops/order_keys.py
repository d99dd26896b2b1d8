"""Keys by which values are sorted so that no two are equal."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op('mmdet::order_keys', mutates_args=(), schema='(Tensor values, bool largest) -> Tensor')
def order_keys(values: Tensor, largest: bool) -> Tensor:
    """A 64-bit key for each of the values ``(..., N)``: the value, in single precision, above its place in the row.

    Of equal values the first has the highest key if ``largest``, else the lowest. By one kernel, on a GPU with Triton.
    """
    from .order_keys_kernel import launch

    return launch(values, largest)


@order_keys.register_fake
def _(values: Tensor, largest: bool) -> Tensor:
    return torch.empty(values.shape, dtype=torch.long, device=values.device)
