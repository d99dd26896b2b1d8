"""One training step in a file: written when a loss is not finite, run again by ``tools/replay.py``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.model import is_model_wrapper

from mmdet.engine.finite import few, parameter_names, wrappers_of
from mmdet.errors import UserValueError
from mmdet.utils import checkpoint as checkpoints
from mmdet.utils.randomness import mix, seed_all

RECORDED = {'config', 'batch', 'state_dict', 'seed', 'rank', 'iter', 'amp_dtype', 'losses', 'images', 'lr'}
AMP_DTYPES = {str(dtype): dtype for dtype in (torch.float16, torch.bfloat16)}


def record_step(runner: Any, data_batch: Any, reason: str, parameters: Sequence = ()) -> str:
    """Write the failed step of this rank to the work dir.

    Args:
        parameters: Those whose gradients are not finite, where the losses are.

    The file holds the batch, the loss components, image paths, ground-truth boxes, learning rates, the scaler, the
    weights before the step and the seeds: all that the step is a function of.

    Returns:
        A message that names the file, the losses, the first of what is not finite, and the images.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    components = _components(runner, model, data_batch)
    bad = [name for name, value in components.items() if not np.isfinite(value)]
    names = parameter_names(model)
    gradients = [names.get(id(parameter), 'a parameter') for parameter in parameters]
    images = image_paths(data_batch)
    wrapper = runner.optim_wrapper
    scaler = getattr(wrapper, 'loss_scaler', None)
    record = dict(
        kind='mmdet step',
        reason=reason,
        iter=runner.iter,
        epoch=runner.epoch,
        rank=get_rank(),
        seed=runner.seed,
        config=runner.cfg.pretty_text,
        losses=components,
        not_finite=bad,
        gradients=gradients,
        images=images,
        boxes=_boxes(data_batch),
        lr={name: list(map(float, rates)) for name, rates in wrapper.get_lr().items()},
        scaler=scaler.state_dict() if scaler is not None else None,
        amp_dtype=str(wrapper.cast_dtype) if scaler is not None else None,
        batch=encode(data_batch),
        state_dict=model.state_dict(),
    )
    path = Path(runner.work_dir) / f'nonfinite_iter_{runner.iter + 1}_rank_{get_rank()}.pth'
    checkpoints.save_checkpoint(record, path)
    found = f'the gradients of {few(gradients)}' if gradients else ', '.join(bad) or 'only their sum'
    return (
        f'Iteration {runner.iter + 1} on rank {get_rank()}: {reason}; not finite: {found}. '
        f'Losses {json.dumps(components)}. '
        f'Learning rate {json.dumps(record["lr"])}, images: {", ".join(images) or "(without paths)"}. '
        f'The weights are as before this step. Run it again with: python tools/replay.py "{path}"'
    )


def _components(runner: Any, model: Any, data_batch: Any) -> dict[str, float]:
    """The losses of the step, computed once more with the same random numbers."""
    seed_all(mix(runner.seed, 1, get_rank(), runner.iter))
    with torch.no_grad(), wrappers_of(runner.optim_wrapper)[0].optim_context(model):
        data = model.data_preprocessor(data_batch, True)
        losses = model(**data, mode='loss') if isinstance(data, dict) else model(*data, mode='loss')
    return loss_values(losses)


def loss_values(losses: dict) -> dict[str, float]:
    """Means of a head's losses; lists become ``name.0``, ``name.1``, ..."""
    values = {}
    for name, loss in losses.items():
        if isinstance(loss, (list, tuple)):
            values.update({f'{name}.{i}': float(part.detach().mean()) for i, part in enumerate(loss)})
        else:
            values[name] = float(loss.detach().mean())
    return values


def replay(path: str | Path, device: str = 'cpu', anomaly: bool = False) -> dict[str, float]:
    """Run a recorded step again, up to its losses.

    Args:
        anomaly: Run the backward pass too, under torch's anomaly detection, which names the first NaN's operation.

    Returns:
        The losses by component.
    """
    from mmengine.registry import init_default_scope

    from mmdet.config import building, parse_stored_config, stored_config
    from mmdet.engine.acceleration import accelerate_training
    from mmdet.registry import MODELS

    record = checkpoints.read_checkpoint(path)
    if record.get('kind') != 'mmdet step':
        raise UserValueError(f'{path} is not a step that training recorded')
    missing = sorted(RECORDED - record.keys())
    if missing:
        raise UserValueError(f'{path} is not a whole recorded step: {", ".join(missing)} is missing')
    cfg = stored_config(record['config'], str(path))
    for module in modules_of(parse_stored_config(record['config']).get('custom_imports')):
        raise_if_missing(module)
    if not isinstance(cfg.get('model'), dict):
        raise UserValueError(f'{path} is not a recorded step: its config has no model')
    init_default_scope(cfg.default_scope)
    with building(cfg):
        model = MODELS.build(cfg.model).to(device)
        model.load_state_dict(record['state_dict'])
        model.train()
        accelerate_training(model, cfg)
        batch = decode(record['batch'])
        seed_all(mix(record['seed'], 1, record['rank'], record['iter']))
    dtype = AMP_DTYPES.get(str(record['amp_dtype']))
    autocast = torch.autocast(torch.device(device).type, dtype=dtype, enabled=record['amp_dtype'] is not None)
    with torch.autograd.set_detect_anomaly(anomaly), autocast:
        data = model.data_preprocessor(batch, True)
        losses = model(**data, mode='loss') if isinstance(data, dict) else model(*data, mode='loss')
        if anomaly:
            model.parse_losses(losses)[0].backward()
    return loss_values(losses)


def modules_of(custom_imports: Any) -> list[str]:
    """The modules that a stored config's ``custom_imports`` names."""
    names = custom_imports.get('imports', ()) if isinstance(custom_imports, dict) else ()
    return [names] if isinstance(names, str) else list(map(str, names))


def raise_if_missing(module: str) -> None:
    """Modules of ``custom_imports`` are code: whoever replays a step must have imported them on purpose."""
    import sys

    if module not in sys.modules:
        raise UserValueError(f'the step needs the module {module!r}: pass --import {module} if you trust it')


# --------------------------------------------------------------------------------------------------------------------
# Batches as plain values
def image_paths(data_batch: Any) -> list[str]:
    """Files of the pictures of a batch, where its samples name them."""
    samples = data_batch.get('data_samples', ()) if isinstance(data_batch, dict) else ()
    return [str(s.img_path) for s in samples if hasattr(s, 'img_path')]


def _boxes(data_batch: Any) -> list:
    samples = data_batch.get('data_samples', ()) if isinstance(data_batch, dict) else ()
    return [
        _tensor(s.gt_instances.bboxes) for s in samples if hasattr(s, 'gt_instances') and 'bboxes' in s.gt_instances
    ]


def _tensor(boxes: Any) -> torch.Tensor:
    return getattr(boxes, 'tensor', boxes)


def encode(value: Any) -> Any:
    """A batch without any class of its own: containers, numbers, text and tensors."""
    from mmengine.structures import BaseDataElement

    if isinstance(value, BaseDataElement):
        fields = {name: encode(field) for name, field in value.items()}
        return dict(_class=type(value).__name__, metainfo=encode(dict(value.metainfo_items())), fields=fields)
    kind = type(value).__name__
    if kind == 'BitmapMasks':
        return dict(
            _class=kind, masks=torch.from_numpy(np.ascontiguousarray(value.masks)), size=[value.height, value.width]
        )
    if kind == 'PolygonMasks':
        masks = [[torch.from_numpy(np.array(part)) for part in parts] for parts in value.masks]
        return dict(_class=kind, masks=masks, size=[value.height, value.width])
    if not isinstance(value, torch.Tensor) and isinstance(getattr(value, 'tensor', None), torch.Tensor):
        return dict(_class=kind, tensor=value.tensor)
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (
            type(value)(encode(item) for item in value) if type(value) in (list, tuple) else [encode(i) for i in value]
        )
    return value


def decode(value: Any) -> Any:
    """Undo :func:`encode`; only the classes named here are made."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, tuple):
        return tuple(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    kind = value.get('_class')
    if kind is None:
        return {key: decode(item) for key, item in value.items()}
    if 'fields' in value:
        from mmengine.structures import InstanceData, PixelData

        from mmdet import structures

        known = {'InstanceData': InstanceData, 'PixelData': PixelData}
        cls = known.get(kind) or (getattr(structures, kind) if kind in ('DetDataSample', 'ReIDDataSample') else None)
        if cls is None:
            raise UserValueError(f'{kind} is not a class that a recorded batch may hold')
        element = cls(metainfo=decode(value['metainfo']))
        for name, item in value['fields'].items():
            element.set_field(decode(item), name) if name not in cls.__dict__ else setattr(element, name, decode(item))
        return element
    if kind in ('BitmapMasks', 'PolygonMasks'):
        from mmdet.structures import mask

        masks = value['masks']
        masks = masks.numpy() if kind == 'BitmapMasks' else [[p.numpy() for p in parts] for parts in masks]
        return getattr(mask, kind)(masks, *value['size'])
    if kind in ('HorizontalBoxes',):
        from mmdet.structures import bbox

        return getattr(bbox, kind)(value['tensor'])
    raise UserValueError(f'{kind} is not a class that a recorded batch may hold')
