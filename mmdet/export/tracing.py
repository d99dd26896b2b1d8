"""Graphs of detectors by ``torch.export``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from mmdet.errors import UserRuntimeError

from .form import Exportable

MOST_PICTURES = 64
MOST_CELLS = 128
"""Bounds of a dynamic batch, and of a dynamic side in units of the divisor."""
LEAST_CELLS = 8
"""A side is traced with at least so many units of 32 pixels: a map with one cell is a special case to the tracer."""


def traced_size(size: Sequence[int], divisor: int) -> tuple[int, int]:
    """The size that a graph of dynamic size is traced with."""
    least = max(divisor, LEAST_CELLS * 32)
    height, width = (max(-(-side // divisor) * divisor, -(-least // divisor) * divisor) for side in size)
    return height, width


def trace(
    form: Exportable,
    size: Sequence[int],
    batch: int = 1,
    dynamic_batch: bool = False,
    dynamic_size: bool = False,
    divisor: int = 32,
) -> tuple[torch.export.ExportedProgram, int]:
    """The graph of a detector, and the number that a dynamic height and width are multiples of.

    That is ``divisor``, or twice or four times as much for networks that need it.

    Raises:
        RuntimeError: the detector computes something that depends on values or on sizes in another way.
    """
    factors = (1, 2, 4) if dynamic_size else (1,)
    for factor in factors:
        step = divisor * factor
        sides = traced_size(size, step) if dynamic_size else tuple(size)
        images = torch.zeros(2 if dynamic_batch else batch, 3, *sides, device=form.device)
        axes: dict[int, object] = {}
        if dynamic_batch:
            axes[0] = torch.export.Dim('batch', min=1, max=MOST_PICTURES)
        if dynamic_size:
            axes[2] = step * torch.export.Dim('height', min=1, max=MOST_CELLS)
            axes[3] = step * torch.export.Dim('width', min=1, max=MOST_CELLS)
        try:
            # a graph that switches gradients off has regions that cannot be written
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                return torch.export.export(form, (images,), dynamic_shapes=(axes or None,), strict=False), step
        except torch._dynamo.exc.UserError as error:
            failure = error
    name = type(form.detector).__name__
    raise UserRuntimeError(
        f'{name} cannot be traced with {"dynamic sizes" if dynamic_size else "these sizes"}: {str(failure)[:600]}'
    ) from failure
