"""Cells that merge two feature maps in searched necks (NAS-FPN, arXiv:1904.07392)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import resolve_layer


class BaseMergeCell(nn.Module):
    """Brings two maps to one size, merges them and convolves the result.

    Args:
        fused_channels: Channels of the merged map.
        with_input1_conv, with_input2_conv: A convolution on an input (of ``out_channels``) before it is resized.
    """

    def __init__(
        self,
        fused_channels: int = 256,
        out_channels: int = 256,
        with_out_conv: bool = True,
        out_conv_cfg: dict = dict(groups=1, kernel_size=3, padding=1, bias=True),
        out_norm_cfg: dict | None = None,
        out_conv_order: tuple[str, ...] = ('act', 'conv', 'norm'),
        with_input1_conv: bool = False,
        with_input2_conv: bool = False,
        input_conv_cfg: dict | None = None,
        input_norm_cfg: dict | None = None,
        upsample_mode: str = 'nearest',
    ) -> None:
        super().__init__()
        if upsample_mode not in ('nearest', 'bilinear'):
            raise UserValueError(f"upsample_mode must be 'nearest' or 'bilinear', got {upsample_mode!r}")
        self.with_out_conv = with_out_conv
        self.with_input1_conv = with_input1_conv
        self.with_input2_conv = with_input2_conv
        self.upsample_mode = upsample_mode
        if with_out_conv:
            self.out_conv = ConvModule(
                fused_channels,
                out_channels,
                norm_cfg=resolve_layer(out_norm_cfg),
                order=out_conv_order,
                **out_conv_cfg,
            )

        def input_conv(wanted: bool) -> nn.Module:
            if not wanted:
                return nn.Sequential()
            return ConvModule(
                out_channels,
                out_channels,
                3,
                padding=1,
                conv_cfg=resolve_layer(input_conv_cfg),
                norm_cfg=resolve_layer(input_norm_cfg),
                bias=True,
                inplace=False,
            )

        self.input1_conv = input_conv(with_input1_conv)
        self.input2_conv = input_conv(with_input2_conv)

    def _resize(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = x.shape[-2:]
        if (height, width) == tuple(size):
            return x
        if height < size[0] or width < size[1]:
            return F.interpolate(x, size=size, mode=self.upsample_mode)
        rows, columns = -height % size[0], -width % size[1]
        if rows or columns:
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        kernel = (x.shape[-2] // size[0], x.shape[-1] // size[1])
        return F.max_pool2d(x, kernel, stride=kernel)

    def _binary_op(self, x1: Tensor, x2: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x1: Tensor, x2: Tensor, out_size: tuple[int, int] | None = None) -> Tensor:
        """Without ``out_size`` the larger of the two sizes is taken."""
        if out_size is None:
            (height, width), (other_height, other_width) = x1.shape[-2:], x2.shape[-2:]
            larger = height > other_height or (height == other_height and width >= other_width)
            out_size = (height, width) if larger else (other_height, other_width)
        x1 = self._resize(self.input1_conv(x1), out_size)
        x2 = self._resize(self.input2_conv(x2), out_size)
        x = self._binary_op(x1, x2)
        return self.out_conv(x) if self.with_out_conv else x


class SumCell(BaseMergeCell):
    """The sum of both maps."""

    def __init__(self, in_channels: int, out_channels: int, **kwargs) -> None:
        super().__init__(in_channels, out_channels, **kwargs)

    def _binary_op(self, x1: Tensor, x2: Tensor) -> Tensor:
        return x1 + x2


class ConcatCell(BaseMergeCell):
    """Both maps along the channels."""

    def __init__(self, in_channels: int, out_channels: int, **kwargs) -> None:
        super().__init__(in_channels * 2, out_channels, **kwargs)

    def _binary_op(self, x1: Tensor, x2: Tensor) -> Tensor:
        return torch.cat([x1, x2], dim=1)


class GlobalPoolingCell(BaseMergeCell):
    """The second map, plus the first one weighed by the second's channel means."""

    def __init__(self, in_channels: int | None = None, out_channels: int | None = None, **kwargs) -> None:
        super().__init__(in_channels, out_channels, **kwargs)
        self.global_pool = nn.AdaptiveAvgPool2d((1, 1))

    def _binary_op(self, x1: Tensor, x2: Tensor) -> Tensor:
        return x2 + self.global_pool(x2).sigmoid() * x1
