"""ONNX files.

The annotations here are no text, unlike elsewhere, since the exporter reads those of translations.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .metadata import KEY, Metadata
from .runtime import optional

OPSET = 20
LONGEST = 14
"""Sides whose length is not known are of at most 2 to this power."""


def translations() -> dict[Callable, Callable]:
    """Operators of ours as those of ONNX."""
    optional('onnxscript', 'exporting to ONNX')
    from onnxscript import opset20 as op

    import mmdet.ops.padded_nms  # noqa: F401  # defines the operator

    def greedy_nms(boxes: Any, groups: Any, sizes: Any, threshold: float, limit: int) -> Any:
        """NonMaxSuppression of candidates in order, moved apart by group; the first ``sizes`` of each image count."""
        shape = op.Shape(groups)  # (B, K)
        count = op.Slice(shape, [1], [2], [0])
        step = op.Add(op.ReduceMax(boxes, [1, 2], keepdims=1), op.Constant(value_float=1.0))  # (B, 1, 1)
        moved = op.Add(boxes, op.Mul(op.Unsqueeze(op.Cast(groups, to=1), [2]), step))
        zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
        along = op.Range(zero, op.Squeeze(count, [0]), one)
        ranks = op.Sub(op.Squeeze(count, [0]), along)  # K, K - 1, ..., 1
        used = op.Greater(op.Unsqueeze(op.Cast(sizes, to=7), [1]), along)  # (B, K)
        scores = op.Where(used, op.Cast(ranks, to=1), op.Constant(value_float=0.0))
        kept = op.NonMaxSuppression(
            moved, op.Unsqueeze(scores, [1]), op.Constant(value_ints=[limit]), op.Constant(value_floats=[threshold])
        )
        places = op.Concat(op.Slice(kept, [0], [1], [1]), op.Slice(kept, [2], [3], [1]), axis=1)  # (n, 2)
        values = op.GatherND(scores, places)
        values = op.ScatterND(op.Mul(scores, op.Constant(value_float=0.0)), places, values)
        top, index = op.TopK(values, op.Constant(value_ints=[limit]))
        counts = op.ReduceSum(op.Cast(op.Greater(top, op.Constant(value_float=0.0)), to=7), [1], keepdims=0)
        return index, counts

    def remainder(value: Any, divisor: int) -> Any:
        """Of a tensor of whole numbers and a size, which the exporter's own takes for a number that is known."""
        if isinstance(divisor, (int, float)):
            return op.Mod(value, op.CastLike(op.Constant(value=_scalar(divisor)), value))
        return op.Mod(value, op.CastLike(divisor, value))

    def sort(value: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        """TopK takes the lower index first of equal values, as a stable sort does."""
        size = op.Reshape(op.Gather(op.Shape(value), op.Constant(value_int=dim)), op.Constant(value_ints=[1]))
        return op.TopK(value, size, axis=dim, largest=int(descending), sorted=1)

    def repeat_interleave(value: Any, repeats: Any, dim: int | None = None, output_size: Any = None) -> Any:
        """The exporter's own confuses axes where ``repeats`` is a size that is not known."""
        if dim is None:
            value, dim, rank = op.Reshape(value, op.Constant(value_ints=[-1])), 0, 1
        else:
            rank = len(value.shape)
        dim %= rank
        known = isinstance(repeats, int)
        count = op.Constant(value_ints=[repeats]) if known else op.Reshape(repeats, op.Constant(value_ints=[-1]))
        after = [op.Constant(value_ints=[1] * (rank - 1 - dim))] if dim < rank - 1 else []
        times = op.Concat(op.Constant(value_ints=[1] * (dim + 1)), count, *after, axis=0)
        before, rest = op.Shape(value, start=0, end=dim), op.Shape(value, start=dim + 1)
        shape = op.Concat(before, op.Constant(value_ints=[-1]), rest, axis=0)
        return op.Reshape(op.Expand(op.Unsqueeze(value, op.Constant(value_ints=[dim + 1])), times), shape)

    def cummax(value: Any, dim: int) -> Any:
        """Maxima over 2, 4, 8, ... places before each, until they are all; which place it was nobody asks."""
        size = value.shape[dim]
        axes, start = op.Constant(value_ints=[dim]), op.Constant(value_ints=[0])
        for shift in (2**i for i in range((size - 1).bit_length() if isinstance(size, int) else LONGEST)):
            first = op.Slice(value, start, op.Constant(value_ints=[shift]), axes)
            others = op.Slice(value, start, op.Constant(value_ints=[-shift]), axes)
            value = op.Max(value, op.Concat(first, others, axis=dim))
        return value, value

    return {
        torch.ops.mmdet.greedy_nms.default: greedy_nms,
        torch.ops.aten.cummax.default: cummax,
        torch.ops.aten.repeat_interleave.self_int: repeat_interleave,
        torch.ops.aten.remainder.Scalar: remainder,
        torch.ops.aten.sort.stable: sort,
    }


def _scalar(value: float) -> Any:
    import onnx_ir

    return onnx_ir.tensor(np.array(value))


def write_onnx(program: torch.export.ExportedProgram, path: Path, metadata: Metadata) -> None:
    """Write a traced graph, whose suppression is the operator, as an ONNX file with metadata."""
    optional('onnxscript', 'exporting to ONNX')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        written = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=['images'],
            output_names=metadata.outputs,
            custom_translation_table=translations(),
        )
    assert written is not None
    written.model.metadata_props[KEY] = metadata.dump()
    path.parent.mkdir(parents=True, exist_ok=True)
    written.save(str(path))
