"""The same normalisation statistics on every rank."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmdet.registry import HOOKS


def get_norm_states(module: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """The state of all batch and instance norm layers in a model, by the names of ``state_dict``."""
    return OrderedDict(
        (f'{name}.{key}' if name else key, value)
        for name, layer in module.named_modules()
        if isinstance(layer, _NormBase)
        for key, value in layer.state_dict().items()
    )


@HOOKS.register_module()
class SyncNormHook(Hook):
    """Averages the state of all batch and instance norm layers over the ranks before each validation."""

    def before_val_epoch(self, runner: Any) -> None:
        if get_world_size() == 1:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        floats = [value for value in get_norm_states(model).values() if value.dtype.is_floating_point]
        if not floats:
            return
        flat = torch.cat([value.flatten().float() for value in floats])  # one message instead of one per tensor
        all_reduce(flat, op='mean')
        for value, part in zip(floats, flat.split([value.numel() for value in floats]), strict=True):
            value.copy_(part.view_as(value))
