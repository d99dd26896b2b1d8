"""The best values of a row, with equal values in the order of their index on every device.

:func:`torch.topk` leaves open which of equal values it takes: other ones on a GPU than on a CPU, and maybe others for a
longer row. Anchors of one place are equally far from a centre, saturated scores are equal, and an assignment must not
depend on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.ops.compiled import has_triton, is_exporting
from mmdet.ops.fixed_size import fixed_options, is_at_hand, is_symbolic
from mmdet.ops.order_keys import order_keys


def stable_topk(values: Tensor, k: int, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The ``min(k, N)`` best of ``(..., N)`` along the last axis, best first; of equal values the first comes first.

    Args:
        values: Floats of at most 32 bits, or integers of at most 31; no NaN.

    Returns:
        Values and indices, each ``(..., min(k, N))``, those that a stable sort puts first.
    """
    size = values.shape[-1]
    exporting = is_exporting()
    if (exporting and is_symbolic(size)) or k >= size:
        top, index = values.sort(dim=-1, descending=largest, stable=True)
        return top[..., :k], index[..., :k]
    if exporting and fixed_options().operator:  # TopK of ONNX takes the first of equal values
        return values.topk(k, -1, largest)
    if is_at_hand(values):  # looking costs nothing here, and ties are rare
        return _topk_looking(values, k, largest)
    return _topk_by_key(values, k, largest)


def _topk_looking(values: Tensor, k: int, largest: bool) -> tuple[Tensor, Tensor]:
    """A plain top-k, and rows with equal values among the first k + 1 once more."""
    top, index = values.topk(k + 1, -1, largest)
    tied = (top[..., 1:] == top[..., :-1]).any(-1)
    top, index = top[..., :k], index[..., :k]
    if tied.any():
        again = _topk_by_key(values[tied], k, largest)
        top, index = top.clone(), index.clone()
        top[tied], index[tied] = again
    return top, index


def _topk_by_key(values: Tensor, k: int, largest: bool) -> tuple[Tensor, Tensor]:
    """A top-k of 64-bit keys, so that no two are equal."""
    if values.is_cuda and values.is_floating_point() and has_triton():
        keys = order_keys(values.detach(), largest)
    else:
        keys = _keys(values, largest)
    index = keys.topk(k, -1, largest).indices
    return values.gather(-1, index), index


def _keys(values: Tensor, largest: bool) -> Tensor:
    """See :func:`mmdet.ops.order_keys.order_keys`."""
    size = values.shape[-1]
    if values.is_floating_point():
        bits = (values.detach().float() + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats count down: now their bits count up
    else:
        bits = values.int()
    place = torch.arange(size, device=values.device)
    place = size - 1 - place if largest else place
    return torch.add(place, bits, alpha=2**32)
