"""ResNeSt (arXiv:2004.08955)."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.backbones.resnet import ResNetV1d
from mmdet.models.backbones.resnext import Bottleneck as GroupedBottleneck
from mmdet.models.layers.building import build_conv_layer, build_norm_layer, named_norm
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS


class SplitAttentionConv2d(BaseModule):
    """A convolution with ``radix`` splits, weighed channel by channel and summed (Fig. 2).

    Args:
        channels: Output channels.
        reduction_factor: Factor by which the inner layer of the attention is narrower than the splits together.
    """

    norm0, norm1 = named_norm(0), named_norm(1)

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        radix: int = 2,
        reduction_factor: int = 4,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        dcn: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        inner = max(in_channels * radix // reduction_factor, 32)
        self.radix = radix
        self.groups = groups
        self.channels = channels
        self.conv = build_conv_layer(
            conv_cfg if dcn is None else dcn,
            in_channels,
            channels * radix,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups * radix,
            bias=False,
        )
        self.norm0_name, norm0 = build_norm_layer(norm_cfg, channels * radix, postfix=0)
        self.add_module(self.norm0_name, norm0)
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = build_conv_layer(None, channels, inner, 1, groups=groups)
        self.norm1_name, norm1 = build_norm_layer(norm_cfg, inner, postfix=1)
        self.add_module(self.norm1_name, norm1)
        self.fc2 = build_conv_layer(None, inner, channels * radix, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, channels, H, W)``: the splits, weighed by attention over them."""
        splits = self.relu(self.norm0(self.conv(x))).unflatten(1, (self.radix, self.channels))  # (B, r, C, H, W)
        mean = splits.sum(1).mean((2, 3), keepdim=True)
        logits = self.fc2(self.relu(self.norm1(self.fc1(mean))))  # channels ordered group, split, channel of the group
        logits = logits.view(x.shape[0], self.groups, self.radix, -1).transpose(1, 2)
        weights = logits.softmax(1) if self.radix > 1 else logits.sigmoid()
        return (splits * weights.reshape(x.shape[0], self.radix, self.channels, 1, 1)).sum(1)


class Bottleneck(GroupedBottleneck):
    """Bottleneck whose 3x3 convolution is a split attention.

    Args:
        avg_down_stride: Average pooling carries the stride, after the 3x3 convolution.
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        groups: int = 1,
        base_width: int = 4,
        base_channels: int = 64,
        radix: int = 2,
        reduction_factor: int = 4,
        avg_down_stride: bool = True,
        **kwargs: Any,
    ) -> None:
        self.radix = radix
        self.reduction_factor = reduction_factor
        self.avg_down_stride = avg_down_stride
        super().__init__(inplanes, planes, groups, base_width, base_channels, **kwargs)

    def _make_conv2(self, cfg: dict | None, width: int, groups: int) -> None:
        self.avg_down_stride = self.avg_down_stride and self.conv2_stride > 1
        self.conv2 = SplitAttentionConv2d(
            width,
            width,
            3,
            stride=1 if self.avg_down_stride else self.conv2_stride,
            padding=self.dilation,
            dilation=self.dilation,
            groups=groups,
            radix=self.radix,
            reduction_factor=self.reduction_factor,
            conv_cfg=cfg,
            norm_cfg=self.norm_cfg,
        )
        if self.avg_down_stride:
            self.avd_layer = nn.AvgPool2d(3, self.conv2_stride, padding=1)

    def _forward_conv2(self, x: Tensor) -> Tensor:
        x = self.conv2(x)
        return self.avd_layer(x) if self.avg_down_stride else x


@MODELS.register_module()
class ResNeSt(ResNetV1d):
    """ResNet-D with split attention.

    Args:
        groups: Number of groups (the cardinality).
        base_width: Channels of each group in the first stage.
        radix: Number of splits in each group.
        reduction_factor: See :class:`SplitAttentionConv2d`.
        avg_down_stride: Average pooling carries the strides of the blocks.
    """

    arch_settings = {
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
        200: (Bottleneck, (3, 24, 36, 3)),
    }

    def __init__(
        self,
        groups: int = 1,
        base_width: int = 4,
        radix: int = 2,
        reduction_factor: int = 4,
        avg_down_stride: bool = True,
        **kwargs: Any,
    ) -> None:
        self.groups = groups
        self.base_width = base_width
        self.radix = radix
        self.reduction_factor = reduction_factor
        self.avg_down_stride = avg_down_stride
        super().__init__(**kwargs)

    def make_res_layer(self, **kwargs: Any) -> ResLayer:
        """The next stage, of split attention."""
        return ResLayer(
            groups=self.groups,
            base_width=self.base_width,
            base_channels=self.base_channels,
            radix=self.radix,
            reduction_factor=self.reduction_factor,
            avg_down_stride=self.avg_down_stride,
            **kwargs,
        )
