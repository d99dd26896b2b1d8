"""Weights into models, with an account of what was used; reading and writing is in :mod:`mmdet.utils.checkpoint`."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseTTAModel
from torch import nn
from torch.nn.parameter import is_lazy

from mmdet.errors import UserValueError
from mmdet.utils.key_maps import translate_state_dict

Mismatch = tuple[str, tuple[int, ...], tuple[int, ...]]
"""Name of a tensor, its shape in the file, its shape in the model."""


@dataclass
class LoadReport:
    """What became of a state dict: names and counts."""

    source: str
    loaded: int = 0
    total: int = 0
    wrong_shape: list[Mismatch] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    key_map: str | None = None

    def __str__(self) -> str:
        text = f'Loaded {self.loaded} of {self.total} tensors from {self.source}'
        if self.key_map:
            text += f' (names translated from {self.key_map})'
        if self.wrong_shape:
            shapes = (f'{n} {"x".join(map(str, a))} -> {"x".join(map(str, b))}' for n, a, b in self.wrong_shape)
            text += f'; {len(self.wrong_shape)} left out for their shape (file -> model): {_some(list(shapes))}'
        if self.missing:
            text += f'; {len(self.missing)} missing: {_some(self.missing)}'
        if self.unexpected:
            text += f'; {len(self.unexpected)} of the file unused: {_some(self.unexpected)}'
        return text + '.'


def _some(names: list[str], limit: int = 5) -> str:
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more


def state_dict_of(checkpoint: dict) -> OrderedDict:
    """The weights in a checkpoint, wherever it keeps them; of RT-DETR's kin their moving average."""
    average = checkpoint.get('ema')
    if isinstance(average, dict) and isinstance(average.get('module'), dict):
        checkpoint = {'state_dict': average['module']}
    for key in ('state_dict', 'model', 'model_state_dict', 'state_dict_ema'):
        inner = checkpoint.get(key)
        if isinstance(inner, dict) and any(isinstance(v, (torch.Tensor, np.ndarray)) for v in inner.values()):
            checkpoint = inner
            break
    result: Any = OrderedDict()
    for name, value in checkpoint.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, torch.Tensor) and isinstance(name, str):
            result[name] = value
    metadata = getattr(checkpoint, '_metadata', None)
    if metadata is not None:
        result._metadata = metadata
    return result


def load_weights(
    model: nn.Module,
    checkpoint: dict,
    strict: bool = False,
    revise_keys: list = [(r'^module\.', '')],
    source: str = 'a state dict',
) -> LoadReport:
    """Copy weights into a model, translating the names of other libraries' detectors.

    Args:
        model: A detector, or a test-time augmentation around one.
        checkpoint: What :func:`read_checkpoint` returns.
        strict: Fail unless every tensor of the model and of the file is used.
        revise_keys: Pairs (pattern, replacement) for ``re.sub`` on each name.

    Raises:
        ValueError: when fewer than half of the model's tensors were in the file with the right shape, naming both
            sides, or on any difference when ``strict``.
    """
    weights: Any = state_dict_of(checkpoint)
    metadata = getattr(weights, '_metadata', None)
    for pattern, replacement in revise_keys:
        weights = OrderedDict((re.sub(pattern, replacement, name), value) for name, value in weights.items())
    if isinstance(model, BaseTTAModel):
        model = model.module
    own = model.state_dict()
    report = LoadReport(str(source))
    weights, report.key_map = translate_state_dict(weights, own)
    if metadata is not None:
        weights._metadata = metadata
    missing, unexpected, report.wrong_shape = _load_modules(model, weights)
    counted = [name for name in own if not name.endswith('num_batches_tracked')]
    report.missing = [name for name in missing if not name.endswith('num_batches_tracked')]
    report.unexpected = unexpected
    report.total = len(counted)
    report.loaded = len(counted) - len(report.missing) - len(report.wrong_shape)
    if strict and (report.missing or unexpected or report.wrong_shape):
        raise UserValueError(f'{report} A strict load allows none of these.')
    if report.total and 2 * report.loaded < report.total:
        raise UserValueError(
            f'{report} That is under half: the checkpoint is of another architecture than the '
            f'{type(model).__name__} of this config.'
        )
    return report


def _load_modules(model: nn.Module, weights: OrderedDict) -> tuple[list[str], list[str], list[Mismatch]]:
    """torch's load, every module's own upgrade of old names included.

    Returns:
        Names that are missing, names that are unused, and what was left out for its shape.
    """
    wrong_shape: list[Mismatch] = []

    def leave_out(module: nn.Module, state: dict, prefix: str, *others: Any) -> None:
        own = {**module._parameters, **module._buffers}
        for name, target in own.items():
            given = state.get(prefix + name)
            if target is None or given is None or is_lazy(target) or name in module._non_persistent_buffers_set:
                continue
            if given.shape != target.shape and (given.shape, target.shape) != ((1,), ()):  # torch unpacks one number
                wrong_shape.append((prefix + name, tuple(given.shape), tuple(target.shape)))
                del state[prefix + name]

    # torch raises for a wrong shape even when it is not strict; last of a module's hooks, this one sees the new names
    hooks = [module.register_load_state_dict_pre_hook(leave_out) for module in model.modules()]
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    finally:
        for hook in hooks:
            hook.remove()
    names = {name for name, *_ in wrong_shape}
    return [name for name in missing if name not in names], list(unexpected), wrong_shape
