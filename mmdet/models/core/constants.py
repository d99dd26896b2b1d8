from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from mmdet.ops.compiled import is_exporting
from mmdet.ops.fixed_size import is_symbolic, stacked_numbers

Made = TypeVar('Made')
REMEMBERED = 32
"""Sizes of pictures that a module remembers at most: training at several sizes has fewer."""


def constant(values: float | Sequence, like: Tensor) -> Tensor:
    """Numbers of the configuration on the device and in the type of ``like``.

    ``like.new_tensor`` lets the host wait until a GPU has done everything before; this does not.
    """
    if is_exporting() and is_symbolic(values):
        return stacked_numbers(values, like)
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def remembered(known: dict, key: Hashable, like: Tensor, make: Callable[[], Made]) -> Made:
    """What ``make`` gives, tensors that follow from ``key`` alone, once for each device, from then on out of ``known``.

    Nothing is kept that cannot be used elsewhere: of graphs that are traced, and tensors of inference mode.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if traced or type(like) is not Tensor or torch.is_inference_mode_enabled():
        return make()
    place = key, like.device
    if place not in known:
        if len(known) >= REMEMBERED:
            known.clear()
        known[place] = make()
    return known[place]
