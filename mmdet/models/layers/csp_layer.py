"""Cross stage partial layers (arXiv:1911.11929) of YOLOX and RTMDet."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.layers.building import conv_module_class, conv_module_options
from mmdet.models.layers.se_layer import ChannelAttention


class ShortcutBlock(BaseModule):
    """Two convolutions with a shortcut where the channels agree."""

    conv1: nn.Module
    conv2: nn.Module
    add_identity: bool

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H, W)``."""
        out = self.conv2(self.conv1(x))
        return out + x if self.add_identity else out


class DarknetBottleneck(ShortcutBlock):
    """1x1 and 3x3 convolutions with a shortcut where the channels agree.

    Args:
        expansion: Inner channels relative to ``out_channels``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: float = 0.5,
        add_identity: bool = True,
        use_depthwise: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: dict = dict(type='Swish'),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        hidden = int(out_channels * expansion)
        conv = conv_module_class(use_depthwise)
        self.conv1 = ConvModule(in_channels, hidden, 1, **shared)
        self.conv2 = conv(hidden, out_channels, 3, stride=1, padding=1, **shared)
        self.add_identity = add_identity and in_channels == out_channels


class CSPNeXtBlock(ShortcutBlock):
    """3x3 and large depthwise separable convolutions with a shortcut (RTMDet, arXiv:2212.07784, Fig. 3b)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: float = 0.5,
        add_identity: bool = True,
        use_depthwise: bool = False,
        kernel_size: int = 5,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: dict = dict(type='SiLU'),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        hidden = int(out_channels * expansion)
        conv = conv_module_class(use_depthwise)
        self.conv1 = conv(in_channels, hidden, 3, stride=1, padding=1, **shared)
        self.conv2 = DepthwiseSeparableConvModule(
            hidden, out_channels, kernel_size, stride=1, padding=kernel_size // 2, **shared
        )
        self.add_identity = add_identity and in_channels == out_channels


class CSPLayer(BaseModule):
    """Blocks on half of the channels, joined with the other half.

    Args:
        expand_ratio: Channels of each half relative to ``out_channels``.
        use_cspnext_block: Blocks of RTMDet instead of YOLOX's.
        channel_attention: A gate per channel before the last convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expand_ratio: float = 0.5,
        num_blocks: int = 1,
        add_identity: bool = True,
        use_depthwise: bool = False,
        use_cspnext_block: bool = False,
        channel_attention: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: dict = dict(type='Swish'),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        block = CSPNeXtBlock if use_cspnext_block else DarknetBottleneck
        half = int(out_channels * expand_ratio)
        self.channel_attention = channel_attention
        self.main_conv = ConvModule(in_channels, half, 1, **shared)
        self.short_conv = ConvModule(in_channels, half, 1, **shared)
        self.final_conv = ConvModule(2 * half, out_channels, 1, **shared)
        self.blocks = nn.Sequential(
            *(block(half, half, 1.0, add_identity, use_depthwise, **shared) for _ in range(num_blocks))
        )
        if channel_attention:
            self.attention = ChannelAttention(2 * half)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H, W)``."""
        joined = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), dim=1)
        return self.final_conv(self.attention(joined) if self.channel_attention else joined)
