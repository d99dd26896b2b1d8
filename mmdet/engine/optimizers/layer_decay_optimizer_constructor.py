"""Smaller learning rates for earlier layers."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmdet.errors import UserNotImplementedError, UserValueError
from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS

_INPUT_NAMES = ('backbone.cls_token', 'backbone.mask_token', 'backbone.pos_embed')
_TOKENS = ('pos_embed', 'cls_token', 'mask_token')  # that have no weight decay in a plain ViT


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LearningRateDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """Learning rates that shrink from the last layer of a detector to its first (BEiT, arXiv:2106.08254).

    The backbone is a ConvNeXt or a plain ViT, whose blocks are its layers. ``paramwise_cfg`` takes ``decay_rate``,
    ``decay_type``: 'layer_wise' or, for a ConvNeXt, 'stage_wise', and ``num_layers``: for a ConvNeXt 12, or 6 for tiny
    ones; for a ViT its blocks, which is the default, up to the last whose output is used. A parameter of layer i, from
    0 for the embedding of patches to ``num_layers + 1`` for neck and heads, has the rate ``lr * decay_rate **
    (num_layers + 1 - i)``. Biases, other vectors and learned positions have no weight decay. ``custom_keys`` multiply
    rates and decays on top by ``lr_mult`` and ``decay_mult``, where of several keys in a name the longest counts.
    """

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        settings = self.paramwise_cfg
        kind, rate = settings.get('decay_type', 'layer_wise'), settings['decay_rate']
        if kind not in ('layer_wise', 'stage_wise'):
            raise UserValueError(f"decay_type must be 'layer_wise' or 'stage_wise', not {kind!r}")
        backbone: Any = module.backbone
        plain_vit = is_plain_vit(backbone)
        if plain_vit and kind == 'stage_wise':
            raise UserValueError("decay_type='stage_wise' is for ConvNeXt: a plain ViT has layers, no stages")
        if not plain_vit and 'ConvNeXt' not in type(backbone).__name__:
            raise UserNotImplementedError(
                'learning rate decay by layers knows the names of ConvNeXt and of plain ViTs only, not of '
                f'{type(backbone).__name__}'
            )
        depth = settings.get('num_layers', used_blocks(backbone) if plain_vit else None)
        if depth is None:
            raise UserValueError('paramwise_cfg needs num_layers for a ConvNeXt: 12, or 6 for tiny ones')
        custom = settings.get('custom_keys', {})
        keys = sorted(sorted(custom), key=len, reverse=True)
        groups: dict[str, dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            plain = parameter.dim() == 1 or name.endswith('.bias') or name in ('pos_embed', 'cls_token')
            if plain_vit:
                layer = get_layer_id_for_vit(name, depth)
                plain |= name.rpartition('.')[2] in _TOKENS
            elif kind == 'layer_wise':
                layer = get_layer_id_for_convnext(name, depth)
            else:
                layer = get_stage_id_for_convnext(name, depth + 2)
            label = f'layer_{layer}_{"no_decay" if plain else "decay"}'
            own = next((key for key in keys if key in name), None)
            more = custom.get(own, {})
            scale = rate ** (depth + 1 - layer) * more.get('lr_mult', 1.0)
            decay = 0.0 if plain else self.base_wd
            if decay is not None:
                decay *= more.get('decay_mult', 1.0)
            group = groups.setdefault(
                label if own is None else f'{label}_{own}',
                dict(
                    weight_decay=decay,
                    params=[],
                    param_names=[],
                    lr_scale=scale,
                    group_name=label if own is None else f'{label}_{own}',
                    lr=scale * self.base_lr,
                ),
            )
            group['params'].append(parameter)
            group['param_names'].append(name)
        params.extend(groups.values())


def is_plain_vit(backbone: nn.Module) -> bool:
    """Whether the backbone is an embedding of patches and then one block after another."""
    return hasattr(backbone, 'patch_embed') and isinstance(getattr(backbone, 'blocks', None), nn.ModuleList)


def used_blocks(backbone: Any) -> int:
    """How many blocks of a plain ViT its outputs need."""
    return max(getattr(backbone, 'out_indices', (len(backbone.blocks) - 1,))) + 1


def get_layer_id_for_vit(var_name: str, max_layer_id: int) -> int:
    """Layer of a parameter, from 0 (patches, tokens and positions) to ``max_layer_id + 1`` (last norm, neck, heads)."""
    if var_name.startswith('backbone.blocks.'):
        return int(var_name.split('.')[2]) + 1
    if var_name.startswith('backbone.') and not var_name.startswith('backbone.norm'):
        return 0
    return max_layer_id + 1


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
