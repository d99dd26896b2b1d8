"""How a model is computed, as opposed to what: memory formats, Winograd's convolutions, folded norms, precision,
compiled networks.

All of it is decided here: by keys of the config for training, by the argument ``optimize`` for prediction.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import torch
from torch import nn

from mmdet.engine.compilation import compile_networks, compile_options
from mmdet.errors import UserValueError
from mmdet.ops.winograd import WinogradConv2d

CHOICES = ('fuse', 'bf16')
CHANNELS_LAST_WITH_AMP = True
"""Whether mixed precision on CUDA stores convolutions channels-last where the config does not say."""
MIN_WINOGRAD_CHANNELS = 128
"""With fewer, Winograd's transforms cost more than the products that they save."""
NEEDS_INPUT = nn.SiLU, nn.Hardswish, nn.Mish
"""Activations whose gradient needs their input: in place they copy it first, one pass more than not in place."""


def lay_out(model: nn.Module, cfg: Mapping[str, Any]) -> nn.Module:
    """A new model in the memory format of a config: ``channels_last=True`` stores convolutions channels-last.

    Where the config does not say, this is so with mixed precision on CUDA, if ``CHANNELS_LAST_WITH_AMP``.
    """
    wanted = cfg.get('channels_last')
    if wanted is None:
        wrapper = (cfg.get('optim_wrapper') or {}).get('type', '')
        mixed = 'AmpOptimWrapper' in (wrapper if isinstance(wrapper, str) else wrapper.__name__)
        wanted = CHANNELS_LAST_WITH_AMP and mixed and torch.cuda.is_available()
    return model.to(memory_format=torch.channels_last) if wanted else model


def accelerate_training(model: nn.Module, cfg: Mapping[str, Any]) -> None:
    """Change in place how a model trains: Winograd's convolutions on CPUs, unless ``cfg`` has ``winograd=False``, and
    activations without copies.

    A compiled model keeps its own convolutions: Winograd's are no operator that a compiler can look into.
    """
    for module in model.modules():
        if isinstance(module, NEEDS_INPUT):
            module.inplace = False
    if cfg.get('winograd', True) and compile_options(cfg.get('compile')) is None:
        use_winograd(model)


def optimize_for_inference(model: nn.Module, how: str | None, compile: bool | Mapping | None = None) -> nn.Module:
    """Change a detector in evaluation mode in place; it cannot be trained afterwards.

    Args:
        how: ``'fuse'`` folds batch norms into the convolutions before them, stores weights channels-last and, on CPUs,
            computes large 3x3 convolutions by Winograd's method: the same detections up to rounding. ``'bf16'`` does
            the same and runs the network in bfloat16 where autocast allows it, with slightly different scores and
            boxes. ``None`` leaves the model alone.
        compile: True or options of ``torch.compile``: backbone, neck and heads are compiled, and Winograd's method is
            left out.

    Raises:
        ValueError: for another value of ``how`` or an unknown option.
    """
    options = compile_options(compile)
    if how is not None:
        _optimize(model, how, compiled=options is not None)
    if options is not None:
        compile_networks(model, options)
    return model


def _optimize(model: nn.Module, how: str, compiled: bool) -> None:
    if how not in CHOICES:
        near = difflib.get_close_matches(str(how), CHOICES, 1, 0)
        raise UserValueError(f'optimize={how!r} is none of None, {", ".join(map(repr, CHOICES))}; nearest: {near[0]!r}')
    model.eval()
    fold_batch_norms(model)
    if not compiled:
        use_winograd(model)
    model.to(memory_format=torch.channels_last)
    if how == 'bf16':
        device = next(model.parameters()).device.type
        detector = getattr(model, 'module', model)  # a test-time augmentation calls the steps of the one inside
        detector.forward = torch.autocast(device, dtype=torch.bfloat16)(detector.forward)


def fold_batch_norms(model: nn.Module) -> int:
    """Replace pairs of a convolution and the batch norm after it by one convolution, and return how many there were.

    A convolution that several modules share is copied for each. Others that change their weights in ``forward``, such
    as those with weight standardisation, stay as they are.
    """
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    pairs = list(_pairs(model))
    fused = [fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)) for parent, conv, norm in pairs]
    for (parent, conv, norm), layer in zip(pairs, fused):
        setattr(parent, conv, layer)
        setattr(parent, norm, nn.Identity())
    return len(pairs)


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Parent and names of each convolution and its batch norm."""
    from mmcv.cnn import ConvModule
    from mmcv.cnn.bricks.wrappers import Conv2d

    for parent in model.modules():
        if isinstance(parent, ConvModule) and (
            parent.with_spectral_norm or parent.order.index('conv') + 1 != parent.order.index('norm')
        ):
            continue
        children = list(parent.named_children())
        for (first, conv), (second, norm) in zip(children, children[1:]):
            if (
                type(conv) in (nn.Conv2d, Conv2d)
                and isinstance(norm, nn.modules.batchnorm._BatchNorm)
                and norm.running_var is not None
                and norm.num_features == conv.out_channels
            ):
                yield parent, first, second


def use_winograd(model: nn.Module) -> int:
    """Replace the convolutions inside a model that may gain by it with :class:`~mmdet.ops.winograd.WinogradConv2d`.

    Parameters, their names and hooks stay. Subclasses that change what a convolution does stay as they are.

    Returns:
        How many there were.
    """
    fast: dict[nn.Module, WinogradConv2d] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child not in fast and _suits_winograd(child):
                fast[child] = WinogradConv2d.of(child)
            if child in fast:
                setattr(parent, name, fast[child])
    return len(fast)


def _suits_winograd(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    from mmcv.cnn.bricks.wrappers import Conv2d

    return (
        isinstance(module, nn.Conv2d)
        and type(module) in (nn.Conv2d, Conv2d)
        and min(module.in_channels, module.out_channels) >= MIN_WINOGRAD_CHANNELS
        and (module.kernel_size, module.stride, module.padding) == ((3, 3), (1, 1), (1, 1))
        and (module.dilation, module.groups, module.padding_mode) == ((1, 1), 1, 'zeros')
    )
