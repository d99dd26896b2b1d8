"""The context modules of SSH (arXiv:1708.03979), which RetinaFace (arXiv:1905.00641) uses as well."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.layers.building import conv_module_options
from mmdet.models.necks.levels import check_maps, check_scales
from mmdet.registry import MODELS


class SSHContextModule(BaseModule):
    """Two and three 3x3 convolutions, which see 5x5 and 7x7 pixels and share the first (Fig. 4)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if out_channels % 4:
            raise UserValueError(f'out_channels of SSH must be a multiple of 4, got {out_channels}')
        self.in_channels = in_channels
        self.out_channels = out_channels
        width = out_channels // 4
        shared = conv_module_options(conv_cfg, norm_cfg, padding=1)
        self.conv5x5_1 = ConvModule(in_channels, width, 3, **shared)
        self.conv5x5_2 = ConvModule(width, width, 3, act_cfg=None, **shared)
        self.conv7x7_2 = ConvModule(width, width, 3, **shared)
        self.conv7x7_3 = ConvModule(width, width, 3, act_cfg=None, **shared)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Contexts of 5x5 and of 7x7 pixels."""
        x = self.conv5x5_1(x)
        return self.conv5x5_2(x), self.conv7x7_3(self.conv7x7_2(x))


class SSHDetModule(BaseModule):
    """A 3x3 convolution beside the context module; half of the channels come from each (Fig. 3)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.out_channels = out_channels
        shared = conv_module_options(conv_cfg, norm_cfg, padding=1, act_cfg=None)
        self.conv3x3 = ConvModule(in_channels, out_channels // 2, 3, **shared)
        self.context_module = SSHContextModule(in_channels, out_channels, conv_cfg, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out_channels, H, W)``: half from a 3x3 convolution, a quarter from each context."""
        return torch.cat([self.conv3x3(x), *self.context_module(x)], dim=1).relu_()


@MODELS.register_module()
class SSH(BaseModule):
    """A detection module of SSH on each level.

    Args:
        num_scales: Number of levels.
        in_channels, out_channels: Channels of each level.
    """

    def __init__(
        self,
        num_scales: int,
        in_channels: list[int],
        out_channels: list[int],
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        init_cfg: dict | list[dict] | None = dict(type='Xavier', layer='Conv2d', distribution='uniform'),
    ) -> None:
        super().__init__(init_cfg)
        check_scales(num_scales, in_channels, out_channels)
        self.num_scales = num_scales
        self.in_channels = in_channels
        self.out_channels = out_channels
        for i in range(num_scales):
            self.add_module(f'ssh_module{i}', SSHDetModule(in_channels[i], out_channels[i], conv_cfg, norm_cfg))

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One map per input, of the same size."""
        check_maps(self, inputs, self.num_scales)
        return tuple(getattr(self, f'ssh_module{i}')(x) for i, x in enumerate(inputs))
