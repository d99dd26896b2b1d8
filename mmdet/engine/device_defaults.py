"""What a run on CUDA takes where its config says nothing: fused optimizers, the search for the fastest convolutions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from mmdet.config.sections import innermost_datasets, pipelines_around

FUSED = {kind.__name__: kind for kind in (SGD, Adam, AdamW)}
_KERNELS = ('fused', 'foreach')
_DECIDES = (*_KERNELS, 'capturable', 'differentiable')
VARIABLE = {
    *('RandomCrop', 'MinIoURandomCrop', 'Mosaic', 'CachedMosaic', 'Expand', 'RandomResize', 'RandomChoiceResize'),
    *('FixScaleResize', 'RandomCenterCropPad', 'MixUp', 'CachedMixUp'),
}


def with_fused_optimizer(cfg: Any, model: nn.Module) -> Any:
    """An ``optim_wrapper`` config with ``fused=True`` where all weights are on CUDA and it does not choose itself."""
    if not isinstance(cfg, Mapping) or any(parameter.device.type != 'cuda' for parameter in model.parameters()):
        return cfg
    cfg = copy.deepcopy(cfg)
    for node in (cfg, *cfg.values()):  # several optimizers lie side by side
        optimizer = node.get('optimizer') if isinstance(node, Mapping) else None
        if not isinstance(optimizer, dict) or any(key in optimizer for key in _DECIDES):
            continue
        kind = optimizer.get('type')
        if kind in FUSED or kind in FUSED.values():
            optimizer['fused'] = True
    return cfg


def keep_kernels(optimizer: Optimizer) -> None:
    """Let a resumed optimizer compute as it was built, not as that of the checkpoint, maybe on another device, was."""

    def before_load(optimizer: Optimizer, state: dict) -> dict:
        own = [{key: group[key] for key in _KERNELS if key in group} for group in optimizer.param_groups]
        groups = state['param_groups']
        if len(groups) != len(own):
            return state  # the optimizer says so itself
        return {**state, 'param_groups': [{**group, **kernels} for group, kernels in zip(groups, own)]}

    optimizer.register_load_state_dict_pre_hook(before_load)


def has_bounded_sizes(cfg: Mapping[str, Any]) -> bool:
    """Whether each loader of a config gives batches of one size, so that a search for the fastest convolution ends."""
    loaders = [name for name in ('train_dataloader', 'val_dataloader', 'test_dataloader') if cfg.get(name)]
    return bool(loaders) and all(_has_one_size(cfg, name) for name in loaders)


def _has_one_size(cfg: Mapping[str, Any], loader: str) -> bool:
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if loader == 'train_dataloader':
        augments = [str(augment.get('type')) for augment in preprocessor.get('batch_augments') or ()]
        if augments:
            return augments == ['BatchFixedSizePad']
    datasets = [where for where, _ in innermost_datasets(cfg, loader)]
    sizes = [_last_size([step for part in pipelines_around(cfg, where) for step in part]) for where in datasets]
    return bool(sizes) and None not in sizes and len(set(sizes)) == 1


def _last_size(pipeline: list) -> tuple | None:
    """The size that the last transform of sizes gives to all pictures; None where there is no such one."""
    for step in reversed(pipeline):
        kind = str(step.get('type')).rpartition('.')[2] if isinstance(step, Mapping) else ''
        if kind == 'Pad' and step.get('size') is not None:
            return tuple(step['size'])
        if kind == 'Resize':
            scale = step.get('scale')
            return None if scale is None or step.get('keep_ratio', False) else tuple(scale)
        if kind in VARIABLE:
            return None
    return None
