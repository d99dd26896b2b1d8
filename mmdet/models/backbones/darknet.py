"""Darknet-53 of YOLOv3 (arXiv:1804.02767)."""

from __future__ import annotations

from collections import OrderedDict

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.backbones.base import Backbone, freeze
from mmdet.models.layers.building import conv_module_options, conv_norm_init_cfg, pretrained_init_cfg
from mmdet.registry import MODELS


class ResBlock(BaseModule):
    """1x1 and 3x3 convolutions with a shortcut after the activation."""

    def __init__(
        self,
        in_channels: int,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        act_cfg: dict = dict(type='LeakyReLU', negative_slope=0.1),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if in_channels % 2:
            raise UserValueError(f'in_channels must be even, got {in_channels}')
        shared = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv1 = ConvModule(in_channels, in_channels // 2, 1, **shared)
        self.conv2 = ConvModule(in_channels // 2, in_channels, 3, padding=1, **shared)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of the same shape."""
        return self.conv2(self.conv1(x)) + x


@MODELS.register_module()
class Darknet(Backbone):
    """Darknet, returning the outputs ``out_indices``; 0 is the first convolution, i the stage i.

    Args:
        frozen_stages: Number of these outputs whose layers stay as they are.
    """

    arch_settings = {53: ((1, 2, 8, 8, 4), ((32, 64), (64, 128), (128, 256), (256, 512), (512, 1024)))}

    def __init__(
        self,
        depth: int = 53,
        out_indices: tuple[int, ...] = (3, 4, 5),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        act_cfg: dict = dict(type='LeakyReLU', negative_slope=0.1),
        norm_eval: bool = True,
        pretrained: str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(pretrained_init_cfg(pretrained, init_cfg, conv_norm_init_cfg()))
        if depth not in self.arch_settings:
            raise UserKeyError(f'Darknet has no depth {depth!r}, but {", ".join(map(str, self.arch_settings))}')
        self.depth = depth
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        self.conv1 = ConvModule(3, 32, 3, padding=1, **shared)
        self.cr_blocks = ['conv1']
        for i, (num_blocks, channels) in enumerate(zip(*self.arch_settings[depth], strict=True)):
            name = f'conv_res_block{i + 1}'
            self.add_module(name, self.make_conv_res_block(*channels, num_blocks, **shared))
            self.cr_blocks.append(name)

    @staticmethod
    def make_conv_res_block(
        in_channels: int,
        out_channels: int,
        res_repeat: int,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        act_cfg: dict = dict(type='LeakyReLU', negative_slope=0.1),
    ) -> nn.Sequential:
        """A convolution of stride 2 and ``res_repeat`` residual blocks."""
        shared = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        layers = OrderedDict(conv=ConvModule(in_channels, out_channels, 3, stride=2, padding=1, **shared))
        for i in range(res_repeat):
            layers[f'res{i}'] = ResBlock(out_channels, **shared)
        return nn.Sequential(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` -> the maps of ``out_indices``."""
        return self.run_stages(x, [getattr(self, name) for name in self.cr_blocks])

    def _freeze_stages(self) -> None:
        freeze(getattr(self, name) for name in self.cr_blocks[: max(self.frozen_stages, 0)])
