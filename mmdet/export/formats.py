"""The formats, and how a detector becomes a file of each."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdet.errors import UserRuntimeError, UserValueError
from mmdet.ops.fixed_size import FixedSize

from .form import Exportable
from .metadata import KEY, Metadata
from .runtime import optional, write_sidecar
from .tracing import trace


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: Of its files.
        precisions: Which it has.
        operator: Whether suppression is an operator of it, not a loop.
        suppresses: Whether it can suppress at all; if not, candidates are the results.
        runs: Whether its files can be run where they are made.
    """

    suffix: str
    precisions: tuple[str, ...] = ('float32',)
    operator: bool = False
    suppresses: bool = True
    runs: bool = True


FORMATS = {
    'onnx': Format('.onnx', ('float32', 'float16', 'int8'), operator=True),
    'openvino': Format('.xml', ('float32', 'float16', 'int8'), operator=True),
    'tensorrt': Format('.engine', ('float32', 'float16'), operator=True, runs=False),
    'pt2': Format('.pt2', ('float32', 'float16')),
    'aotinductor': Format('.pt2'),
    'executorch': Format('.pte', suppresses=False),
    'coreml': Format('.mlpackage', suppresses=False, runs=False),
}
"""Name of a format and what it can do."""


@dataclass
class Request:
    """What is asked for.

    Attributes:
        path: Of the file.
        size: Height and width of the input.
        calibration: Inputs ``(B, 3, H, W)`` for int8.
        say: What to do with a line of text for the person who waits.
    """

    path: Path
    metadata: Metadata
    size: Sequence[int]
    calibration: Sequence[Tensor] = ()
    say: Callable[[str], Any] = print


def options_for(name: str, max_num: int) -> FixedSize:
    """How a format pads results."""
    return FixedSize(max_num=max_num, operator=FORMATS[name].operator)


def write_file(form: Exportable, request: Request) -> Path:
    """Write a detector as a file of ``metadata.format``, and give what can be opened: the file, or the ONNX file that
    it would be built from.

    Raises:
        ValueError: the format has no such precision.
        RuntimeError: the detector cannot be traced.
        ImportError: a package that writes the format is missing.
    """
    metadata = request.metadata
    kind = FORMATS[metadata.format]
    if metadata.precision not in kind.precisions:
        raise UserValueError(
            f'{metadata.format} files are written in {", ".join(kind.precisions)}, not {metadata.precision!r}'
        )
    request.path.parent.mkdir(parents=True, exist_ok=True)
    program, metadata.divisor = trace(
        form, request.size, metadata.batch, metadata.dynamic_batch, metadata.dynamic_size, metadata.divisor
    )
    return _WRITERS[metadata.format](program, request)


def _write_onnx(program: torch.export.ExportedProgram, request: Request) -> Path:
    from .onnx_format import write_onnx
    from .quantisation import quantise

    metadata, path = request.metadata, request.path
    if metadata.precision != 'int8':
        write_onnx(program, path, metadata)
        return path
    whole = path.with_name(f'{path.stem}.float32.onnx')
    write_onnx(program, whole, metadata)
    quantise(whole, path, request.calibration)
    whole.unlink()
    return path


def _write_openvino(program: torch.export.ExportedProgram, request: Request) -> Path:
    openvino = optional('openvino', 'exporting to OpenVINO')
    metadata, between = request.metadata, request.path.with_name(f'{request.path.stem}.between.onnx')
    _write_onnx(program, Request(between, metadata, request.size, request.calibration, request.say))
    model = openvino.convert_model(str(between))
    model.set_rt_info(metadata.dump(), [KEY])
    openvino.save_model(model, str(request.path), compress_to_fp16=metadata.precision == 'float16')
    between.unlink()
    return request.path


def _write_tensorrt(program: torch.export.ExportedProgram, request: Request) -> Path:
    onnx_path = request.path.with_suffix('.onnx')
    _write_onnx(program, Request(onnx_path, request.metadata, request.size))
    try:
        import tensorrt
    except ImportError:
        request.say(
            f'TensorRT is not installed here, so no engine is built. {onnx_path} is the file that it takes, and is '
            f'what is checked; build the engine with: trtexec --onnx={onnx_path.name} --saveEngine={request.path.name}'
        )
        return onnx_path
    build_engine(tensorrt, onnx_path, request)
    write_sidecar(request.path, request.metadata)
    return onnx_path


def build_engine(tensorrt: Any, onnx_path: Path, request: Request) -> None:
    """A TensorRT engine of an ONNX file, for the GPU of this machine."""
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        faults = '; '.join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise UserRuntimeError(f'TensorRT does not take {onnx_path}: {faults}')
    config = builder.create_builder_config()
    metadata = request.metadata
    if metadata.precision == 'float16':
        config.set_flag(tensorrt.BuilderFlag.FP16)
    if metadata.dynamic_batch or metadata.dynamic_size:
        profile = builder.create_optimization_profile()
        height, width = request.size
        least = 1 if metadata.dynamic_batch else metadata.batch
        profile.set_shape('images', (least, 3, height, width), (least, 3, height, width), (8, 3, height, width))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UserRuntimeError(f'TensorRT could not build an engine of {onnx_path}; its messages are above')
    request.path.write_bytes(bytes(engine))


def _write_pt2(program: torch.export.ExportedProgram, request: Request) -> Path:
    if request.metadata.precision != 'float32':
        program = program.run_decompositions({})  # which resolves where autocast begins and ends
    program.example_inputs = None  # pictures that would be most of a small file
    torch.export.save(program, str(request.path), extra_files={KEY: request.metadata.dump()})
    return request.path


def _write_aotinductor(program: torch.export.ExportedProgram, request: Request) -> Path:
    if shutil.which('g++') is None and shutil.which('clang++') is None:
        raise UserRuntimeError(
            'AOTInductor compiles C++, and there is neither g++ nor clang++ here; format pt2 needs none'
        )
    settings = {'aot_inductor.metadata': {KEY: request.metadata.dump()}}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch._inductor.aoti_compile_and_package(program, package_path=str(request.path), inductor_configs=settings)
    return request.path


def _write_executorch(program: torch.export.ExportedProgram, request: Request) -> Path:
    exir = optional('executorch.exir', 'exporting to ExecuTorch')
    partition = optional('executorch.backends.xnnpack.partition.xnnpack_partitioner', 'exporting to ExecuTorch')
    try:
        edge = exir.to_edge_transform_and_lower(program, partitioner=[partition.XnnpackPartitioner()])
        request.path.write_bytes(edge.to_executorch().buffer)
    except RuntimeError as error:
        raise UserRuntimeError(f'executorch cannot lower this detector: {str(error)[:600]}') from error
    write_sidecar(request.path, request.metadata)
    return request.path


def _write_coreml(program: torch.export.ExportedProgram, request: Request) -> Path:
    coremltools = optional('coremltools', 'exporting to CoreML')
    operators = torch.ops.aten.__and__.Tensor, torch.ops.aten.__or__.Tensor  # which it does not know by these names
    table = torch._decomp.get_decompositions(operators)
    try:
        model = coremltools.convert(program.run_decompositions(table), convert_to='mlprogram')
    except (NotImplementedError, RuntimeError, ValueError, TypeError, KeyError) as error:
        version = coremltools.__version__
        raise UserRuntimeError(
            f'coremltools {version} cannot convert this detector: {error}. Formats onnx and pt2 take it.'
        ) from error
    model.user_defined_metadata[KEY] = request.metadata.dump()
    model.save(str(request.path))
    request.say('CoreML files run on Apple systems alone: the conversion has gone through, the results are not checked')
    return request.path


_WRITERS: dict[str, Callable[[torch.export.ExportedProgram, Request], Path]] = {
    'onnx': _write_onnx,
    'openvino': _write_openvino,
    'tensorrt': _write_tensorrt,
    'pt2': _write_pt2,
    'aotinductor': _write_aotinductor,
    'executorch': _write_executorch,
    'coreml': _write_coreml,
}
