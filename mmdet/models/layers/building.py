"""What mmcv's builders lack: names of this toolbox without a default scope, and checkpointing with one spelling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mmcv.cnn
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet.errors import UserTypeError, UserValueError
from mmdet.registry import MODELS

# of YOLOX and its kin
KAIMING_UNIFORM = dict(
    type='Kaiming',
    layer='Conv2d',
    a=math.sqrt(5),
    distribution='uniform',
    mode='fan_in',
    nonlinearity='leaky_relu',
)


def resolve_layer(cfg: dict | None) -> dict | None:
    """``cfg`` with the class in place of a type that only this toolbox knows.

    mmcv's builders (and so its ``ConvModule``) look in the registry of the default scope, which research code that
    constructs a module directly has not set, or has set to its own.
    """
    if cfg is None or not isinstance(cfg.get('type'), str):
        return cfg
    with ROOT_MODELS.switch_scope_and_registry(None) as registry:
        try:
            found = registry.get(cfg['type'])
        except KeyError:
            found = None
    return cfg if found is not None else {**cfg, 'type': MODELS.get(cfg['type'])}


def build_conv_layer(cfg: dict | None, *args: Any, **kwargs: Any) -> nn.Module:
    """mmcv's, with the layers of this package known under their names."""
    return mmcv.cnn.build_conv_layer(resolve_layer(cfg), *args, **kwargs)


def build_norm_layer(cfg: dict, num_features: int, postfix: int | str = '') -> tuple[str, nn.Module]:
    """mmcv's, with the layers of this package known under their names."""
    return mmcv.cnn.build_norm_layer(resolve_layer(cfg), num_features, postfix)


def build_plugin_layer(cfg: dict, postfix: int | str = '', **kwargs: Any) -> tuple[str, nn.Module]:
    """mmcv's, with the layers of this package known under their names."""
    return mmcv.cnn.build_plugin_layer(resolve_layer(cfg), postfix, **kwargs)


def conv_module_options(conv_cfg: dict | None, norm_cfg: dict | None, **others: Any) -> dict[str, Any]:
    """The arguments that the ``ConvModule``s of a network have in common."""
    return dict(conv_cfg=resolve_layer(conv_cfg), norm_cfg=resolve_layer(norm_cfg), **others)


def conv_module_class(use_depthwise: bool) -> type[nn.Module]:
    """The convolution that ``use_depthwise`` of a config asks for."""
    return DepthwiseSeparableConvModule if use_depthwise else ConvModule


def named_norm(index: int) -> property:
    """The norm layer that stands under the name ``norm{index}_name``, ``bn1`` or ``gn1`` say, as ``norm{index}``."""
    doc = f'The norm layer after convolution {index}.'
    return property(lambda module: getattr(module, getattr(module, f'norm{index}_name')), doc=doc)


def build_linear_layer(cfg: dict | None, **kwargs: Any) -> nn.Module:
    """The layer that ``cfg`` names, ``nn.Linear`` without one, for ``in_features=`` and ``out_features=``."""
    return nn.Linear(**kwargs) if cfg is None else MODELS.build({**cfg, **kwargs})


def run_checkpointed(function: Callable[[Tensor], Any], x: Tensor, with_cp: bool) -> Any:
    """``function(x)``, whose activations are computed again in the backward pass if ``with_cp``."""
    if with_cp and x.requires_grad:
        return checkpoint(function, x, use_reentrant=False)
    return function(x)


def pretrained_init_cfg(pretrained: str | None, init_cfg: Any, default: Any = None) -> Any:
    """The ``init_cfg`` meant by the older ``pretrained`` argument; ``default`` where neither is given.

    Raises:
        ValueError: if both are given.
        TypeError: if ``pretrained`` is not a path.
    """
    if pretrained is None:
        return default if init_cfg is None else init_cfg
    if init_cfg is not None:
        raise UserValueError(f'give either init_cfg or pretrained, not both (pretrained={pretrained!r})')
    if not isinstance(pretrained, str):
        raise UserTypeError(f'pretrained must be a path or URL, got {pretrained!r}')
    return dict(type='Pretrained', checkpoint=pretrained)


def conv_norm_init_cfg() -> list[dict]:
    """He initialisation of convolutions (arXiv:1502.01852), ones for norm layers."""
    return [
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
    ]


def make_divisible(value: float, divisor: int, min_value: int | None = None, min_ratio: float = 0.9) -> int:
    """A multiple of ``divisor`` near ``value``, at least ``min_value`` (or ``divisor``) and ``min_ratio`` of it."""
    rounded = max(min_value or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= min_ratio * value else rounded + divisor
