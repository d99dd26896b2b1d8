"""Convolutions that are two while training and one afterwards (RepVGG, arXiv:2101.03697), and blocks of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_activation_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mmdet.utils import OptConfigType


def folded(conv: ConvModule) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch norm after it."""
    norm = conv.norm
    return fuse_conv_bn_weights(
        conv.conv.weight, conv.conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


class RepVGGBlock(BaseModule):
    """A 3x3 and a 1x1 convolution side by side, then an activation; :meth:`deploy` makes one convolution of both."""

    def __init__(
        self, channels: int, norm_cfg: dict = dict(type='BN'), act_cfg: OptConfigType = dict(type='SiLU', inplace=True)
    ) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)
        self.conv2 = ConvModule(channels, channels, 1, norm_cfg=norm_cfg, act_cfg=None)
        self.activate = build_activation_layer(act_cfg) if act_cfg else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of the same shape."""
        if hasattr(self, 'conv'):
            return self.activate(self.conv(x))
        return self.activate(self.conv1(x) + self.conv2(x))

    def deploy(self) -> None:
        """Leave one convolution with bias, which gives what both with their batch norms gave in evaluation mode."""
        if hasattr(self, 'conv'):
            return
        (weight, bias), (small, other) = folded(self.conv1), folded(self.conv2)
        channels = len(weight)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            self.conv.weight.copy_(weight + F.pad(small, [1, 1, 1, 1]))
            self.conv.bias.copy_(bias + other)
        del self.conv1, self.conv2


class RepNCSPELAN(BaseModule):
    """A map split in two, the second half put through two stages; all parts are mixed (GELAN of YOLOv9,
    arXiv:2402.13616, Fig. 3, as D-FINE has it).

    Args:
        mid_channels: Of both halves together.
        stage_channels: Of each stage.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int,
        stage_channels: int,
        num_blocks: int = 3,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: OptConfigType = dict(type='SiLU', inplace=True),
    ) -> None:
        super().__init__()
        shared = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        half = mid_channels // 2
        self.conv1 = ConvModule(in_channels, mid_channels, 1, **shared)
        self.csp_rep1 = CSPRepLayer(half, stage_channels, num_blocks, **shared)
        self.conv2 = ConvModule(stage_channels, stage_channels, 3, padding=1, **shared)
        self.csp_rep2 = CSPRepLayer(stage_channels, stage_channels, num_blocks, **shared)
        self.conv3 = ConvModule(stage_channels, stage_channels, 3, padding=1, **shared)
        self.conv4 = ConvModule(mid_channels + 2 * stage_channels, out_channels, 1, **shared)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H, W)``."""
        halves = self.conv1(x).chunk(2, 1)
        first = self.conv2(self.csp_rep1(halves[1]))
        second = self.conv3(self.csp_rep2(first))
        return self.conv4(torch.cat([*halves, first, second], 1))


class SplitCSPRepLayer(BaseModule):
    """One convolution, half of whose output goes through :class:`RepVGGBlock` s; the sum of the halves (DEIMv2,
    arXiv:2509.20787).

    Args:
        trailing_conv: Whether a 3x3 convolution follows.
    """

    def __init__(
        self, in_channels: int, out_channels: int, num_blocks: int = 3, trailing_conv: bool = False, **kwargs: Any
    ) -> None:
        super().__init__()
        self.conv1 = ConvModule(in_channels, 2 * out_channels, 1, **kwargs)
        self.bottlenecks = nn.Sequential(*[RepVGGBlock(out_channels, **kwargs) for _ in range(num_blocks)])
        trail = lambda: ConvModule(out_channels, out_channels, 3, padding=1, **kwargs)
        self.conv2 = trail() if trailing_conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H, W)``."""
        kept, x = self.conv1(x).chunk(2, 1)
        return self.conv2(kept + self.bottlenecks(x))


class RepELAN(BaseModule):
    """:class:`RepNCSPELAN` that keeps its channels, with :class:`SplitCSPRepLayer` s and nothing after them."""

    def __init__(
        self, channels: int, stage_channels: int, num_blocks: int = 3, trailing_conv: bool = False, **kwargs: Any
    ) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, 2 * channels, 1, **kwargs)
        self.csp_rep1 = SplitCSPRepLayer(channels, stage_channels, num_blocks, trailing_conv, **kwargs)
        self.csp_rep2 = SplitCSPRepLayer(stage_channels, stage_channels, num_blocks, trailing_conv, **kwargs)
        self.conv2 = ConvModule(2 * channels + 2 * stage_channels, channels, 1, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of the same shape."""
        halves = self.conv1(x).chunk(2, 1)
        first = self.csp_rep1(halves[1])
        return self.conv2(torch.cat([*halves, first, self.csp_rep2(first)], 1))


class CSPRepLayer(BaseModule):
    """Two 1x1 convolutions, one of them followed by :class:`RepVGGBlock` s; their sum (RT-DETR, arXiv:2304.08069,
    Fig. 4, "fusion").

    Args:
        expand_ratio: Channels inside, in parts of ``out_channels``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int = 3,
        expand_ratio: float = 1.0,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: OptConfigType = dict(type='SiLU', inplace=True),
    ) -> None:
        super().__init__()
        channels = int(out_channels * expand_ratio)
        shared = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv1 = ConvModule(in_channels, channels, 1, **shared)
        self.conv2 = ConvModule(in_channels, channels, 1, **shared)
        self.bottlenecks = nn.Sequential(*[RepVGGBlock(channels, **shared) for _ in range(num_blocks)])
        widens = channels != out_channels
        self.conv3 = ConvModule(channels, out_channels, 1, **shared) if widens else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H, W)``."""
        return self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))
