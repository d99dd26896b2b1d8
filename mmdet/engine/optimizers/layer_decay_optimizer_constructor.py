"""Smaller learning rates for earlier layers."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmdet.errors import UserNotImplementedError, UserValueError
from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS

_INPUT_NAMES = ('backbone.cls_token', 'backbone.mask_token', 'backbone.pos_embed')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LearningRateDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """Learning rates of a ConvNeXt detector that shrink from its last layer to its first (BEiT, arXiv:2106.08254).

    ``paramwise_cfg`` takes ``num_layers`` (12 for deep variants, 6 for tiny), ``decay_rate`` and ``decay_type``:
    'layer_wise' or 'stage_wise'. Biases and other vectors have no weight decay.
    """

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        settings = self.paramwise_cfg
        kind, num_layers, rate = (
            settings.get('decay_type', 'layer_wise'),
            settings['num_layers'] + 2,
            settings['decay_rate'],
        )
        backbone = type(module.backbone).__name__
        if 'ConvNeXt' not in backbone:
            raise UserNotImplementedError(
                f'learning rate decay by layers knows the names of ConvNeXt only, not of {backbone}'
            )
        if kind not in ('layer_wise', 'stage_wise'):
            raise UserValueError(f"decay_type must be 'layer_wise' or 'stage_wise', not {kind!r}")
        groups: dict[str, dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            plain = parameter.dim() == 1 or name.endswith('.bias') or name in ('pos_embed', 'cls_token')
            if kind == 'layer_wise':
                layer = get_layer_id_for_convnext(name, settings['num_layers'])
            else:
                layer = get_stage_id_for_convnext(name, num_layers)
            key = f'layer_{layer}_{"no_decay" if plain else "decay"}'
            scale = rate ** (num_layers - layer - 1)
            group = groups.setdefault(
                key,
                dict(
                    weight_decay=0.0 if plain else self.base_wd,
                    params=[],
                    param_names=[],
                    lr_scale=scale,
                    group_name=key,
                    lr=scale * self.base_lr,
                ),
            )
            group['params'].append(parameter)
            group['param_names'].append(name)
        params.extend(groups.values())


def get_layer_id_for_convnext(var_name: str, max_layer_id: int) -> int:
    """Layer of a parameter, from 0 (input) to ``max_layer_id + 1`` (neck and heads).

    The third stage, which is the long one, is split into groups of three blocks.
    """
    if var_name in _INPUT_NAMES:
        return 0
    parts = var_name.split('.')
    if var_name.startswith('backbone.downsample_layers'):
        return (0, 2, 3, max_layer_id)[int(parts[2])]
    if var_name.startswith('backbone.stages'):
        return (1, 2, 3 + int(parts[3]) // 3, max_layer_id)[int(parts[2])]
    return max_layer_id + 1


def get_stage_id_for_convnext(var_name: str, max_stage_id: int) -> int:
    """Stage of a parameter: 0 for the input and all down-sampling layers, 1 to 4, ``max_stage_id - 1`` for the rest."""
    if var_name in _INPUT_NAMES or var_name.startswith('backbone.downsample_layers'):
        return 0
    if var_name.startswith('backbone.stages'):
        return int(var_name.split('.')[2]) + 1
    return max_stage_id - 1
