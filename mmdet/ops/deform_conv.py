"""Deformable convolution, v1 (arXiv:1703.06211) and v2 (arXiv:1811.11168).

Offsets have shape (B, deform_groups * 2 * kh * kw, H', W'): for each group and kernel point y, then x, in cells.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmdet.errors import UserValueError
from mmdet.registry import MODELS


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Deformable convolution with a factor for every kernel point.

    Args:
        input: Shape (B, C, H, W).
        mask: Shape (B, deform_groups * kh * kw, H', W'); ``None`` for v1.
        weight: Shape (C', C / groups, kh, kw).

    Raises:
        ValueError: if the channels do not fit the groups.
    """
    points = weight.shape[2] * weight.shape[3]
    if input.size(1) != weight.size(1) * groups:
        raise UserValueError(f'{input.size(1)} channels do not fit a weight of {weight.size(1)} in {groups} group(s).')
    if offset.size(1) != 2 * points * deform_groups:
        raise UserValueError(
            f'{offset.size(1)} offset channels, but {deform_groups} deform_groups of a kernel of {points} points '
            f'need {2 * points * deform_groups}.'
        )
    if not input.size(0):
        used = [x.sum() for x in (input, offset, mask, weight, bias) if x is not None]
        return input.new_zeros(0, weight.size(0), *offset.shape[2:]) + sum(used) * 0
    from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

    dtype = torch.promote_types(input.dtype, torch.float32)  # half precision cannot tell positions apart
    full = [None if x is None else x.to(dtype) for x in (input, offset, weight, bias, mask)]
    with torch.autocast(input.device.type, enabled=False):
        output = torchvision_deform_conv2d(
            *full[:4], stride=_pair(stride), padding=_pair(padding), dilation=_pair(dilation), mask=full[4]
        )
    return output.to(input.dtype)


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> Tensor:
    """Deformable convolution v1. ``bias`` must be False; ``im2col_step`` is accepted and has no effect."""
    if bias:
        raise UserValueError('bias=True is not supported by deform_conv2d.')
    return modulated_deform_conv2d(input, offset, None, weight, None, stride, padding, dilation, groups, deform_groups)


class _DeformableConv(nn.Module):
    """Arguments and the weight that both versions share."""

    weight: nn.Parameter
    _version = 2
    channels_per_point: int  # of the convolution that predicts offsets (and masks)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int],
        padding: int | tuple[int, int],
        dilation: int | tuple[int, int],
        groups: int,
        deform_groups: int,
    ) -> None:
        super().__init__()
        for name, value in (('groups', groups), ('deform_groups', deform_groups)):
            if in_channels % value:
                raise UserValueError(f'in_channels={in_channels} is not divisible by {name}={value}.')
        if out_channels % groups:
            raise UserValueError(f'out_channels={out_channels} is not divisible by groups={groups}.')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
        self.dilation = _pair(dilation)
        self.groups = groups
        self.deform_groups = deform_groups
        self.transposed = False  # initialisers of convolutions ask for these two
        self.output_padding = (0,)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))

    def _make_conv_offset(self) -> nn.Conv2d:
        conv = nn.Conv2d(
            self.in_channels,
            self.deform_groups * self.channels_per_point * self.kernel_size[0] * self.kernel_size[1],
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        zero_(conv)
        return conv

    def extra_repr(self) -> str:
        return (
            f'{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, '
            f'padding={self.padding}, dilation={self.dilation}, groups={self.groups}, '
            f'deform_groups={self.deform_groups}'
        )


def zero_(layer: nn.Module) -> None:
    """Set weight and bias of a linear or convolutional layer to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _deform_groups(deform_groups: int, deformable_groups: int | None) -> int:
    return deform_groups if deformable_groups is None else deformable_groups


class DeformConv2d(_DeformableConv):
    """Deformable convolution v1.

    Args:
        deform_groups: Groups of channels with offsets of their own.
        bias: Must be False.
        im2col_step: Accepted; has no effect.
        deformable_groups: Old spelling of ``deform_groups``.
    """

    channels_per_point = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
        deformable_groups: int | None = None,
    ) -> None:
        if bias:
            raise UserValueError(f'bias={bias} is not supported by {type(self).__name__}.')
        groups_of_offsets = _deform_groups(deform_groups, deformable_groups)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, groups_of_offsets)
        self.im2col_step = im2col_step
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's rule."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity='relu')

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """``offset``: ``(B, 2 * deform_groups * kh * kw, H_out, W_out)``, pixels, y before x."""
        # A map smaller than the kernel is padded for the convolution, and the result cropped.
        short = [max(kernel - size, 0) for kernel, size in zip(self.kernel_size, x.shape[2:], strict=True)]
        if any(short):
            x = F.pad(x, (0, short[1], 0, short[0]))
            offset = F.pad(offset, (0, short[1], 0, short[0]))
        out = deform_conv2d(
            x, offset, self.weight, self.stride, self.padding, self.dilation, self.groups, self.deform_groups
        )
        return out[:, :, : out.size(2) - short[0], : out.size(3) - short[1]] if any(short) else out


@MODELS.register_module('DCN')
class DeformConv2dPack(DeformConv2d):
    """Deformable convolution v1 that predicts its offsets with a convolution, zero at first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conv_offset = self._make_conv_offset()

    def init_offset(self) -> None:
        """Start as the plain convolution."""
        zero_(self.conv_offset)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """``(B, C, H, W)`` -> ``(B, out, H_out, W_out)``."""
        return super().forward(x, self.conv_offset(x))


class ModulatedDeformConv2d(_DeformableConv):
    """Deformable convolution v2.

    Args:
        deform_groups: Groups of channels with offsets and masks of their own.
        deformable_groups: Old spelling of ``deform_groups``.
    """

    channels_per_point = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool | str = True,
        deformable_groups: int | None = None,
    ) -> None:
        groups_of_offsets = _deform_groups(deform_groups, deformable_groups)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, groups_of_offsets)
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels))
        else:
            self.register_parameter('bias', None)
        self.init_weights()

    def init_weights(self) -> None:
        """Uniform by the number of inputs, no bias."""
        bound = 1 / math.sqrt(self.in_channels * self.kernel_size[0] * self.kernel_size[1])
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """``offset`` as in :class:`DeformConv2d`; ``mask``: a factor for each point, half as many channels."""
        return modulated_deform_conv2d(
            x,
            offset,
            mask,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.deform_groups,
        )


@MODELS.register_module('DCNv2')
class ModulatedDeformConv2dPack(ModulatedDeformConv2d):
    """Deformable convolution v2 that predicts offsets (first two thirds of the channels) and masks, zero at first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conv_offset = self._make_conv_offset()

    def init_weights(self) -> None:
        """Start with no offsets and all factors at one half."""
        super().init_weights()
        if hasattr(self, 'conv_offset'):
            zero_(self.conv_offset)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """``(B, C, H, W)`` -> ``(B, out, H_out, W_out)``."""
        channels = self.conv_offset.out_channels // 3
        offset, mask = self.conv_offset(x).split((2 * channels, channels), 1)
        return super().forward(x, offset, mask.sigmoid())


DCN = DeformConv2dPack
DCNv2 = ModulatedDeformConv2dPack
