"""Weights into models, with an account of what was used; reading and writing is in :mod:`mmdet.utils.checkpoint`."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import torch

from mmdet.engine.key_maps import translate_state_dict
from mmdet.errors import UserValueError


@dataclass
class LoadReport:
    """What became of a state dict: names and counts."""

    source: str
    loaded: int = 0
    total: int = 0
    wrong_shape: list[tuple[str, tuple, tuple]] = field(default_factory=list)  # name, in the file, in the model
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
    """The weights in a checkpoint, wherever it keeps them."""
    for key in ('state_dict', 'model', 'model_state_dict', 'state_dict_ema'):
        inner = checkpoint.get(key)
        if isinstance(inner, dict) and any(isinstance(v, (torch.Tensor, np.ndarray)) for v in inner.values()):
            checkpoint = inner
            break
    result = OrderedDict()
    for name, value in checkpoint.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, torch.Tensor):
            result[name] = value
    metadata = getattr(checkpoint, '_metadata', None)
    if metadata is not None:
        result._metadata = metadata
    return result


def load_weights(
    model: torch.nn.Module,
    checkpoint: dict,
    strict: bool = False,
    revise_keys: list = [(r'^module\.', '')],
    source: str = 'a state dict',
) -> LoadReport:
    """Copy weights into a model, translating the names of other libraries' detectors.

    Args:
        model: A detector, not wrapped.
        checkpoint: What :func:`read_checkpoint` returns.
        strict: Fail unless every tensor of the model and of the file is used.
        revise_keys: Pairs (pattern, replacement) for ``re.sub`` on each name.

    Raises:
        ValueError: when fewer than half of the model's tensors were in the file with the right shape, naming both
            sides, or on any difference when ``strict``.
    """
    weights = state_dict_of(checkpoint)
    metadata = getattr(weights, '_metadata', None)
    for pattern, replacement in revise_keys:
        weights = OrderedDict((re.sub(pattern, replacement, name), value) for name, value in weights.items())
    own = model.state_dict()
    report = LoadReport(str(source))
    weights, report.key_map = _translate(weights, own, model)
    if metadata is not None:
        weights._metadata = metadata
    missing, unexpected, errors = _load_modules(model, weights)
    shape_of = {name: tuple(value.shape) for name, value in own.items()}
    for name, value in weights.items():
        if name in shape_of and tuple(value.shape) != shape_of[name] and any(f' {name}:' in e for e in errors):
            report.wrong_shape.append((name, tuple(value.shape), shape_of[name]))
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


def _translate(weights: OrderedDict, own: dict, model: torch.nn.Module) -> tuple[OrderedDict, str | None]:
    """The names of another library's detector as this model's, when they fit it better than they are."""
    if sum(name in own for name in weights) * 2 >= len(own):
        return weights, None
    return translate_state_dict(weights, own)


def _load_modules(model: torch.nn.Module, weights: OrderedDict) -> tuple[list[str], list[str], list[str]]:
    """torch's load with every module's own upgrade of old names, as mmengine does it."""
    from mmengine.runner.checkpoint import load_state_dict

    missing, unexpected = [], []
    seen: list[str] = []

    class Silent(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    logger = logging.Logger('mmdet.load')  # not registered: collects, prints nothing
    logger.addHandler(Silent())
    load_state_dict(model, weights, strict=False, logger=logger)
    text = '\n'.join(seen)
    for line in text.split('\n'):
        for start, names in (
            ('unexpected key in source state_dict: ', unexpected),
            ('missing keys in source state_dict: ', missing),
        ):
            if line.startswith(start):
                names.extend(line[len(start) :].split(', '))
    errors = [line for line in text.split('\n') if 'size mismatch for' in line]
    return missing, unexpected, errors
