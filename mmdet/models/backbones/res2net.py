"""Res2Net (arXiv:1904.01169)."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.backbones.resnet import Bottleneck, ResNet
from mmdet.models.layers.building import build_conv_layer, build_norm_layer
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS


class Bottle2neck(Bottleneck):
    """Bottleneck whose 3x3 convolution is a chain of narrow ones, each adding to the next (Fig. 2b).

    Args:
        scales: Number of channel groups; the last one passes by.
        base_width: Channels of a group in the first stage.
        stage_type: 'stage' for the first block of a stage, whose groups do not add up and whose last group is pooled.
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        scales: int = 4,
        base_width: int = 26,
        base_channels: int = 64,
        stage_type: str = 'normal',
        **kwargs: Any,
    ) -> None:
        if scales < 2:
            raise UserValueError(f'Res2Net degenerates to ResNet with scales={scales}; it needs at least 2')
        width = math.floor(planes * (base_width / base_channels))
        super().__init__(inplanes, planes, width=width * scales, **kwargs)
        if stage_type == 'stage' and self.conv2_stride != 1:
            self.pool = nn.AvgPool2d(3, stride=self.conv2_stride, padding=1)
        self.convs = ModuleList(
            build_conv_layer(
                self._conv2_cfg(),
                width,
                width,
                3,
                stride=self.conv2_stride,
                padding=self.dilation,
                dilation=self.dilation,
                bias=False,
            )
            for _ in range(scales - 1)
        )
        self.bns = ModuleList(build_norm_layer(self.norm_cfg, width, postfix=i + 1)[1] for i in range(scales - 1))
        self.stage_type = stage_type
        self.scales = scales
        self.width = width

    def _make_conv2(self, cfg: dict | None, width: int, groups: int) -> None:
        pass  # the chain comes after the other layers

    def _forward_conv2(self, x: Tensor) -> Tensor:
        groups = x.split(self.width, dim=1)
        outs: list[Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.bns, strict=True)):
            group = groups[i] if i == 0 or self.stage_type == 'stage' else outs[-1] + groups[i]
            outs.append(self.relu(norm(conv(group.contiguous()))))
        pooled = self.stage_type == 'stage' and self.conv2_stride != 1
        outs.append(self.pool(groups[-1]) if pooled else groups[-1])
        return torch.cat(outs, dim=1)


@MODELS.register_module()
class Res2Net(ResNet):
    """Res2Net with the stem and shortcuts of ResNetV1d.

    Args:
        scales: Number of channel groups of each block.
        base_width: Channels of a group in the first stage.
    """

    arch_settings = {
        50: (Bottle2neck, (3, 4, 6, 3)),
        101: (Bottle2neck, (3, 4, 23, 3)),
        152: (Bottle2neck, (3, 8, 36, 3)),
    }

    def __init__(
        self,
        scales: int = 4,
        base_width: int = 26,
        style: str = 'pytorch',
        deep_stem: bool = True,
        avg_down: bool = True,
        pretrained: str | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        self.scales = scales
        self.base_width = base_width
        super().__init__(
            style='pytorch', deep_stem=True, avg_down=True, pretrained=pretrained, init_cfg=init_cfg, **kwargs
        )

    def make_res_layer(self, **kwargs: Any) -> ResLayer:
        """The next stage; its first block keeps the scales apart."""
        return ResLayer(
            scales=self.scales,
            base_width=self.base_width,
            base_channels=self.base_channels,
            first_block_kwargs=dict(stage_type='stage'),
            **kwargs,
        )
