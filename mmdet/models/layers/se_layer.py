from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError

from .dynamic_head import dynamic_relu


def _two_activations(act_cfg: dict | tuple[dict, dict]) -> tuple[dict, dict]:
    pair = (act_cfg, act_cfg) if isinstance(act_cfg, dict) else act_cfg
    if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(cfg, dict) for cfg in pair):
        raise UserValueError(f'act_cfg must be a dict or a tuple of two dicts, got {act_cfg!r}')
    return pair


class SELayer(BaseModule):
    """Squeeze and excitation (arXiv:1709.01507): channels scaled by a gate that sees their means.

    Args:
        ratio: Factor by which the inner convolution is narrower.
        act_cfg: Activations after the two convolutions.
    """

    def __init__(
        self,
        channels: int,
        ratio: int = 16,
        conv_cfg: dict | None = None,
        act_cfg: dict | tuple[dict, dict] = (dict(type='ReLU'), dict(type='Sigmoid')),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        inner, outer = _two_activations(act_cfg)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = ConvModule(channels, int(channels / ratio), 1, conv_cfg=conv_cfg, act_cfg=inner)
        self.conv2 = ConvModule(int(channels / ratio), channels, 1, conv_cfg=conv_cfg, act_cfg=outer)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)``, each channel weighed."""
        return x * self.conv2(self.conv1(self.global_avgpool(x)))


class DyReLU(BaseModule):
    """Dynamic ReLU (arXiv:2003.10027), the variant shared by all positions (DyReLU-B of DyHead).

    Each channel is the larger of two lines whose slopes and offsets come from the image.
    """

    def __init__(
        self,
        channels: int,
        ratio: int = 4,
        conv_cfg: dict | None = None,
        act_cfg: dict | tuple[dict, dict] = (
            dict(type='ReLU'),
            dict(type='HSigmoid', bias=3.0, divisor=6.0),
        ),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        inner, outer = _two_activations(act_cfg)
        self.channels = channels
        self.expansion = 4  # two slopes and two offsets
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = ConvModule(channels, int(channels / ratio), 1, conv_cfg=conv_cfg, act_cfg=inner)
        self.conv2 = ConvModule(int(channels / ratio), channels * self.expansion, 1, conv_cfg=conv_cfg, act_cfg=outer)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of the same shape."""
        return dynamic_relu(x, self.conv2(self.conv1(self.global_avgpool(x))))


class ChannelAttention(BaseModule):
    """A gate per channel from its mean by one 1x1 convolution (RTMDet, arXiv:2212.07784)."""

    def __init__(self, channels: int, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)``, each channel weighed."""
        return x * self.act(self.fc(self.global_avgpool(x)))
