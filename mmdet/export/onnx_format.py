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

    return {
        torch.ops.mmdet.greedy_nms.default: greedy_nms,
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
