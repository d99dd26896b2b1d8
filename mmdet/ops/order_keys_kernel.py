"""The kernel of :func:`mmdet.ops.order_keys.order_keys`, for GPUs. Importable without Triton, then without a kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .triton_jit import jit, tl, triton

BLOCK, WARPS = 1024, 4


def launch(values: Tensor, largest: bool) -> Tensor:
    """See :func:`mmdet.ops.order_keys.order_keys`."""
    keys = torch.empty(values.shape, dtype=torch.long, device=values.device)
    size = values.shape[-1]
    if keys.numel():
        grid = keys.numel() // size, triton.cdiv(size, BLOCK)
        kernel[grid](values.contiguous(), keys, size, LARGEST=largest, BLOCK=BLOCK, num_warps=WARPS)
    return keys


def _keys(values, keys, size, LARGEST: tl.constexpr, BLOCK: tl.constexpr):
    """Bits of negative floats count down, so all but the sign are turned round; -0.0 counts as 0.0."""
    start = tl.program_id(0).to(tl.int64) * size
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(values + start + place, mask=place < size, other=0.0).to(tl.float32)
    bits = tl.where(value == 0.0, 0.0, value).to(tl.int32, bitcast=True)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    if LARGEST:
        below = size - 1 - place
    else:
        below = place
    tl.store(keys + start + place, (bits.to(tl.int64) << 32) + below, mask=place < size)


kernel: Any = jit(_keys, do_not_specialize=['size'])
