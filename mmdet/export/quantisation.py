"""Files that compute in 8 bits, by pictures that show which values occur."""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmdet.errors import UserValueError

from .runtime import optional

KINDS = ('Conv', 'Gemm', 'MatMul')
"""Operators with weights that are computed in 8 bits; all else, boxes above all, stays as it is."""
CHOICES = ('TopK', 'NonMaxSuppression')
"""Operators that look at predictions."""
SIZES = ('Shape', 'Size')
"""Operators that see no values."""


def quantise(source: Path, target: Path, inputs: Sequence[Tensor]) -> None:
    """Write an ONNX file whose networks compute in 8 bits, with scales for each channel of their weights.

    The layers that predict, and products of what they predict, stay as they are: see :func:`layers_in_float`.

    Args:
        inputs: Some ten to a few hundred ``(B, 3, H, W)``, as the file takes them.

    Raises:
        ValueError: there are none.
    """
    if not len(inputs):
        raise UserValueError('int8 needs pictures for calibration: give some with --pictures')
    ort = optional('onnxruntime', 'quantising')
    onnx = optional('onnx', 'quantising')
    quantization = optional('onnxruntime.quantization', 'quantising')

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            name = ort.InferenceSession(str(source), providers=['CPUExecutionProvider']).get_inputs()[0].name
            self.rows: Iterator[dict[str, Any]] = iter({name: value.cpu().numpy()} for value in inputs)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rows, None)

    known = onnx.load(str(source))
    logging.getLogger().setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        quantization.quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(KINDS),
            nodes_to_exclude=layers_in_float(known.graph),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
    model = onnx.load(str(target))
    del model.metadata_props[:]
    model.metadata_props.extend(known.metadata_props)
    onnx.save(model, str(target))


def layers_in_float(graph: Any) -> list[str]:
    """Names of the nodes of ``KINDS`` that have no weights of their own, as the products of masks with what is
    predicted for them, and of those whose results no other layer takes before they are chosen from or come out: the
    scores and boxes of all places, which 256 steps would make equal or move."""
    weights = {value.name for value in graph.initializer if len(value.dims) > 1}
    outputs = {output.name for output in graph.output}
    takers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            takers[name].append(node)
    layers = [node for node in graph.node if node.op_type in KINDS]
    weighted = {node.name for node in layers if node.input[1] in weights}

    predicts: dict[str, bool] = {}  # of a value: whether it comes out, or is chosen from, before a layer takes it
    produced = [name for node in graph.node for name in node.output]
    for value in reversed(produced):
        predicts[value] = value in outputs or any(
            node.op_type in CHOICES
            or (
                node.name not in weighted
                and node.op_type not in SIZES
                and any(predicts.get(name, False) for name in node.output)
            )
            for node in takers[value]
        )
    return [node.name for node in layers if node.name not in weighted or any(predicts[name] for name in node.output)]
