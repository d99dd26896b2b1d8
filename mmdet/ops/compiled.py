"""Which compiled code there is, and where it may be used."""

from __future__ import annotations

import functools
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor


@functools.cache
def compiled_mmcv() -> ModuleType | None:
    """``mmcv.ops`` where it can be imported: in the full mmcv, not in mmcv-lite."""
    try:
        return import_module('mmcv.ops') if find_spec('mmcv._ext') else None
    except ImportError:  # built for another torch
        return None


TRITON_IS_THERE = find_spec('triton') is not None


def has_triton() -> bool:
    """Whether Triton is there, by which kernels are compiled. It is not imported to know."""
    return TRITON_IS_THERE  # looked up once, for `torch.compile` cannot follow the search


def is_exporting() -> bool:
    """Whether torch.export makes a graph. Within torch.compile, torch's own function says so, too, as late as 2.11."""
    if torch.compiler.is_dynamo_compiling():
        return getattr(torch.compiler, '_is_exporting_flag', False)
    return torch.compiler.is_exporting()


def may_sum_in_any_order(x: Tensor) -> bool:
    """Whether a kernel for GPUs that adds up gradients in no order serves ``x``.

    Not where results must be the same in each run, nor in graphs that are exported to runtimes without it.
    """
    return (
        x.is_cuda
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and has_triton()
        and not is_exporting()
        and not torch.are_deterministic_algorithms_enabled()
    )
