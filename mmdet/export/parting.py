"""Between which layers an exported file and its detector part."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .form import Exportable
from .runtime import optional

RELATIVE = 1e-3
"""Layers agree whose outputs differ by no more than this part of their largest value."""
SCOPES = 'pkg.torch.onnx.name_scopes'


def where_they_part(form: Exportable, path: Path, image: Tensor) -> str:
    """A sentence that names the last layer whose outputs agree and the first whose do not; for ONNX files.

    Args:
        image: An input of the file, ``(1, 3, H, W)``.
    """
    if path.suffix != '.onnx':
        return 'Export to onnx to see between which layers.'
    values = outputs_of_layers(path, image)
    ours = outputs_of_modules(form, image, list(values))
    last = None
    for name in (name for name in ours if name in values):
        first, second = ours[name].float(), torch.as_tensor(values[name]).float()
        if first.shape != second.shape:
            continue
        scale = float(first.abs().max().clamp(min=1e-12))
        worst = float((first - second).abs().max())
        if not worst <= RELATIVE * scale:
            begin = f'They agree up to {last}, and' if last else 'They'
            return f'{begin} part in {name}: its outputs differ by {worst:.3g} where the largest is {scale:.3g}.'
        last = name
    return f'All layers agree, up to {last}: they part in what is made of their outputs.'


def outputs_of_layers(path: Path, image: Tensor) -> dict[str, Any]:
    """What each layer of an ONNX file gives: the value of the last node that belongs to it or to a layer inside."""
    onnx, ort = optional('onnx', 'comparing layers'), optional('onnxruntime', 'comparing layers')
    model = onnx.load(str(path))
    known = {output.name for output in model.graph.output}
    last: dict[str, str] = {}
    for node in model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), None)
        names = _names(scopes)
        for name in names if node.output else ():
            last.pop(name, None)
            last[name] = node.output[0]
    wanted = {layer: value for layer, value in last.items() if value}
    for value in dict.fromkeys(wanted.values()):
        if value not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=value))
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / 'layers.onnx'
        onnx.save(model, str(changed))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(str(changed), options, providers=['CPUExecutionProvider'])
        found = session.run(list(wanted.values()), {session.get_inputs()[0].name: image.cpu().numpy()})
    return dict(zip(wanted, found))


def _names(text: str | None) -> list[str]:
    import ast

    if not text:
        return []
    return [name for name in ast.literal_eval(text)[:-1] if name]


def outputs_of_modules(form: Exportable, image: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """What modules of a detector give, in the order in which they are called; the last call of each counts."""
    found: dict[str, Tensor] = {}
    handles = []
    for name, module in form.named_modules():
        if name in names:
            handles.append(module.register_forward_hook(_keeper(found, name)))
    try:
        with torch.no_grad():
            form(image.to(form.device))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _keeper(found: dict[str, Tensor], name: str) -> Any:
    def keep(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found.pop(name, None)
            found[name] = output.detach().cpu()

    return keep
