"""Files that compute in 8 bits, by pictures that show which values occur."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmdet.errors import UserValueError

from .runtime import optional

KINDS = ('Conv', 'Gemm', 'MatMul')
"""Operators that are computed in 8 bits; all else, boxes above all, stays as it is."""


def quantise(source: Path, target: Path, inputs: Sequence[Tensor]) -> None:
    """Write an ONNX file whose networks compute in 8 bits, with scales for each channel of their weights.

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
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
    model = onnx.load(str(target))
    del model.metadata_props[:]
    model.metadata_props.extend(known.metadata_props)
    onnx.save(model, str(target))
