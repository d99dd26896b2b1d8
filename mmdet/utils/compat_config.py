"""The data section of configs of MMDetection 2.x in its last form.

Whole 2.x configs are translated when they are loaded; these functions are for code that handles 2.x configs itself.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

from mmengine.config import ConfigDict

from mmdet.errors import UserValueError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def compat_cfg(cfg: Any) -> Any:
    """A copy of a 2.x config with ``runner`` and ``data.*_dataloader`` in place of the older keys."""
    return compat_runner_args(compat_loader_args(compat_imgs_per_gpu(copy.deepcopy(cfg))))


def compat_runner_args(cfg: Any) -> Any:
    """Add ``runner`` to a config, in place, that says ``total_epochs`` alone."""
    if 'runner' not in cfg:
        cfg.runner = ConfigDict(type='EpochBasedRunner', max_epochs=cfg.total_epochs)
        warnings.warn(
            f'total_epochs={cfg.total_epochs} becomes runner=dict(type="EpochBasedRunner", ...)', stacklevel=2
        )
    elif 'total_epochs' in cfg and cfg.total_epochs != cfg.runner.max_epochs:
        raise UserValueError(
            f'total_epochs is {cfg.total_epochs}, but runner.max_epochs is {cfg.runner.max_epochs}: leave one out'
        )
    return cfg


def compat_imgs_per_gpu(cfg: Any) -> Any:
    """Set ``data.samples_per_gpu``, in place, to ``data.imgs_per_gpu`` where a config has that."""
    if 'imgs_per_gpu' in cfg.data:
        warnings.warn(f'data.imgs_per_gpu={cfg.data.imgs_per_gpu} becomes data.samples_per_gpu', stacklevel=2)
        cfg.data.samples_per_gpu = cfg.data.imgs_per_gpu
    return cfg


def compat_loader_args(cfg: Any) -> Any:
    """A copy in which the sizes of batches and numbers of workers stand in ``data.*_dataloader``.

    Raises:
        UserValueError: a value stands in both places.
    """
    cfg = copy.deepcopy(cfg)
    data = cfg.data
    for loader in LOADERS:
        data.setdefault(loader, ConfigDict())
    if 'samples_per_gpu' in data:
        _move(data, 'samples_per_gpu', data, LOADERS[:1])
    for key in ('persistent_workers', 'workers_per_gpu'):
        if key in data:
            _move(data, key, data, LOADERS[:1] if key == 'persistent_workers' else LOADERS)
    for split in ('val', 'test'):
        datasets = data.get(split) or {}
        if isinstance(datasets, dict):
            if 'samples_per_gpu' in datasets:
                _move(datasets, 'samples_per_gpu', data, (f'{split}_dataloader',))
        elif any('samples_per_gpu' in dataset for dataset in datasets):
            largest = max(dataset.pop('samples_per_gpu', 1) for dataset in datasets)
            _move(dict(samples_per_gpu=largest), 'samples_per_gpu', data, (f'{split}_dataloader',))
    return cfg


def _move(source: dict, key: str, data: Any, loaders: tuple[str, ...]) -> None:
    value = source.pop(key)
    for loader in loaders:
        if key in data[loader]:
            raise UserValueError(f'{key} stands in data.{loader} and in another place of data: leave one out')
        data[loader][key] = value
