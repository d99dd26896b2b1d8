"""Exported files as functions, each by the runtime of its format.

Letters: B images, N places for detections.
"""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdet.errors import UserFileError, UserImportError, UserRuntimeError, UserValueError

from .metadata import KEY, Metadata, sidecar

SUFFIXES = ('.onnx', '.pt2', '.xml', '.pte', '.engine', '.mlpackage')
"""Of exported files."""


class Session:
    """An exported file that is ready to run.

    Attributes:
        metadata: What the file says about itself.
        path: The file.
    """

    def __init__(self, path: Path, metadata: Metadata, run: Callable[[Tensor], Sequence[Any]]) -> None:
        self.path, self.metadata, self._run = path, metadata, run

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs by name of ``(B, 3, H, W)``; a file of a fixed batch runs as often as it has to."""
        if self.metadata.dynamic_batch:
            return self._named(self._run(images))
        size, parts = self.metadata.batch, []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            short = size - len(part)
            full = torch.cat([part, part[-1:].expand(short, -1, -1, -1)]) if short else part
            found = self._named(self._run(full))
            parts.append({name: value[: len(part)] for name, value in found.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _named(self, values: Sequence[Any]) -> dict[str, Tensor]:
        return {name: torch.as_tensor(value) for name, value in zip(self.metadata.outputs, values)}


def is_exported(path: Any) -> bool:
    """Whether a name is that of an exported file, not of a checkpoint."""
    return str(path).lower().endswith(SUFFIXES)


def optional(name: str, purpose: str) -> Any:
    """A package that is not needed otherwise.

    Raises:
        ImportError: it, or what it needs itself, is not installed.
    """
    package = name.partition('.')[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name and error.name.partition('.')[0] != package:
            other = error.name.partition('.')[0]
            raise UserImportError(
                f'{purpose} needs {package}, which is installed, but not {other}, which it needs: pip install {other}'
            ) from error
        raise UserImportError(f'{purpose} needs {package}, which is not installed: pip install {package}') from error


def open_file(path: str | Path, device: str = 'cpu') -> Session:
    """An exported file with its runtime.

    Raises:
        ValueError: the file is of no format that can be run, or was not made by mmdet export.
        FileNotFoundError: it is not there.
        ImportError: its runtime is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise UserFileError(f'There is no exported file {str(path)!r}.')
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserValueError(f'{str(path)!r} is no exported file: they end in {", ".join(SUFFIXES)}')
    openers: dict[str, Callable[[Path, str], Session]] = {
        '.onnx': _open_onnx,
        '.pt2': _open_pt2,
        '.xml': _open_openvino,
        '.pte': _open_executorch,
    }
    if suffix not in openers:
        raise UserValueError(f'{str(path)!r} cannot be run here: {suffix} files are checked where they are made')
    return openers[suffix](path, device)


def _open_onnx(path: Path, device: str) -> Session:
    ort = optional('onnxruntime', 'running an ONNX file')
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ['CUDAExecutionProvider'] if device.startswith('cuda') else []
    providers = [name for name in (*wanted, 'CPUExecutionProvider') if name in ort.get_available_providers()]
    session = ort.InferenceSession(str(path), options, providers=providers)
    metadata = Metadata.load(session.get_modelmeta().custom_metadata_map.get(KEY), path)
    name, half = session.get_inputs()[0].name, session.get_inputs()[0].type == 'tensor(float16)'

    def run(images: Tensor) -> Sequence[Any]:
        values = images.cpu().numpy()
        return session.run(None, {name: values.astype('float16') if half else values})

    return Session(path, metadata, run)


def _open_pt2(path: Path, device: str) -> Session:
    import torchvision.ops  # noqa: F401  # operators that a graph may have

    with zipfile.ZipFile(path) as file:
        compiled = any('aotinductor' in name for name in file.namelist())
    if compiled:
        package = torch._inductor.aoti_load_package(str(path))
        metadata = Metadata.load(package.get_metadata().get(KEY), path)
        return Session(path, metadata, lambda images: package(images))
    extra = {KEY: ''}
    program = torch.export.load(str(path), extra_files=extra)
    module: Any = program.module()
    metadata = Metadata.load(extra[KEY], path)
    if device != 'cpu':
        module = module.to(device)

    def run(images: Tensor) -> Sequence[Any]:
        with torch.no_grad():
            return [value.cpu() for value in module(images.to(device))]

    return Session(path, metadata, run)


def _open_openvino(path: Path, device: str) -> Session:
    openvino = optional('openvino', 'running an OpenVINO file')
    model = openvino.Core().read_model(str(path))
    metadata = Metadata.load(model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None, path)
    threads = {'INFERENCE_NUM_THREADS': torch.get_num_threads(), 'INFERENCE_PRECISION_HINT': 'f32'}
    compiled = openvino.compile_model(model, 'CPU', threads)

    def run(images: Tensor) -> Sequence[Any]:
        found = compiled([images.cpu().numpy()])
        return [found[i].copy() for i in range(len(compiled.outputs))]

    return Session(path, metadata, run)


def _open_executorch(path: Path, device: str) -> Session:
    runtime = optional('executorch.runtime', 'running an ExecuTorch file')
    try:
        method = runtime.Runtime.get().load_program(str(path)).load_method('forward')
    except RuntimeError as error:
        raise UserRuntimeError(
            f'{path} cannot be run: it has operators that the installed runtime of executorch lacks ({error})'
        ) from error
    text = sidecar(path).read_text(encoding='utf-8') if sidecar(path).exists() else None
    return Session(path, Metadata.load(text, path), lambda images: method.execute([images]))


def write_sidecar(path: Path, metadata: Metadata) -> None:
    """Metadata beside a file whose format has no room for it."""
    sidecar(path).write_text(json.dumps(json.loads(metadata.dump()), indent=1), encoding='utf-8')
