"""CSPDarknet of YOLOX (arXiv:2107.08430)."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.backbones.base import Backbone, freeze
from mmdet.models.layers.building import KAIMING_UNIFORM, conv_module_class, conv_module_options
from mmdet.models.layers.csp_layer import CSPLayer
from mmdet.registry import MODELS


class Focus(nn.Module):
    """Each 2x2 block of pixels becomes channels, then a convolution.

    The pixels are ordered upper left, lower left, upper right, lower right.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: dict = dict(type='Swish'),
    ) -> None:
        super().__init__()
        self.conv = ConvModule(
            in_channels * 4,
            out_channels,
            kernel_size,
            stride,
            padding=(kernel_size - 1) // 2,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H / 2, W / 2)``: the four pixels of a square become channels."""
        pixels = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(pixels, dim=1))


class SPPBottleneck(BaseModule):
    """Max pooling of several sizes between 1x1 convolutions (spatial pyramid pooling as in YOLOv3-SPP)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: tuple[int, ...] = (5, 9, 13),
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: dict = dict(type='Swish'),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        shared = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        half = in_channels // 2
        self.conv1 = ConvModule(in_channels, half, 1, **shared)
        self.poolings = nn.ModuleList(nn.MaxPool2d(size, stride=1, padding=size // 2) for size in kernel_sizes)
        self.conv2 = ConvModule(half * (len(kernel_sizes) + 1), out_channels, 1, **shared)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H, W)``."""
        x = self.conv1(x)
        return self.conv2(torch.cat([x] + [pool(x) for pool in self.poolings], dim=1))


def stage_settings(num_blocks: int) -> dict[str, list[list]]:
    """For each stage input channels, output channels, blocks, shortcuts in the blocks, spatial pyramid pooling.

    Args:
        num_blocks: Of the second and the third stage.
    """
    first = [[64, 128, 3, True, False], [128, 256, num_blocks, True, False], [256, 512, num_blocks, True, False]]
    return {
        'P5': [*first, [512, 1024, 3, False, True]],
        'P6': [*first, [512, 768, 3, True, False], [768, 1024, 3, False, True]],
    }


@MODELS.register_module()
class CSPDarknet(Backbone):
    """CSPDarknet, returning the outputs ``out_indices``; 0 is the stem, i the stage i.

    Args:
        arch: 'P5' (last stride 32) or 'P6' (64).
        deepen_factor, widen_factor: Factors on the number of blocks and of channels.
        frozen_stages: 0 freezes the stem, i also the stages up to i.
        arch_ovewrite: Settings in place of those of ``arch``.
    """

    arch_settings = stage_settings(9)

    def __init__(
        self,
        arch: str = 'P5',
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        out_indices: tuple[int, ...] = (2, 3, 4),
        frozen_stages: int = -1,
        use_depthwise: bool = False,
        arch_ovewrite: list[list] | None = None,
        spp_kernal_sizes: tuple[int, ...] = (5, 9, 13),
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: dict = dict(type='Swish'),
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = KAIMING_UNIFORM,
    ) -> None:
        super().__init__(init_cfg)
        if not arch_ovewrite and arch not in self.arch_settings:
            raise UserKeyError(f'{type(self).__name__} has no arch {arch!r}, but {", ".join(self.arch_settings)}')
        settings = arch_ovewrite or self.arch_settings[arch]
        if not set(out_indices) <= set(range(len(settings) + 1)):
            raise UserValueError(f'out_indices must be among 0 to {len(settings)}, got {out_indices}')
        if frozen_stages not in range(-1, len(settings) + 1):
            raise UserValueError(f'frozen_stages must be -1 to {len(settings)}, got {frozen_stages}')
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.use_depthwise = use_depthwise
        self.norm_eval = norm_eval
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        conv = conv_module_class(use_depthwise)
        self.stem = self._make_stem(settings[0][0] * widen_factor, **shared)
        self.layers = ['stem']
        for i, (in_channels, out_channels, num_blocks, add_identity, use_spp) in enumerate(settings):
            in_channels, out_channels = int(in_channels * widen_factor), int(out_channels * widen_factor)
            stage = [conv(in_channels, out_channels, 3, stride=2, padding=1, **shared)]
            if use_spp:
                stage.append(SPPBottleneck(out_channels, out_channels, spp_kernal_sizes, **shared))
            num_blocks = max(round(num_blocks * deepen_factor), 1)
            stage.append(self._make_csp_layer(out_channels, num_blocks, add_identity, **shared))
            self.add_module(f'stage{i + 1}', nn.Sequential(*stage))
            self.layers.append(f'stage{i + 1}')

    def _make_stem(self, channels: float, **shared: dict | None) -> nn.Module:
        return Focus(3, int(channels), kernel_size=3, **shared)

    def _make_csp_layer(self, channels: int, num_blocks: int, add_identity: bool, **shared: dict | None) -> CSPLayer:
        return CSPLayer(
            channels,
            channels,
            num_blocks=num_blocks,
            add_identity=add_identity,
            use_depthwise=self.use_depthwise,
            **shared,
        )

    def _freeze_stages(self) -> None:
        freeze(getattr(self, name) for name in self.layers[: self.frozen_stages + 1])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` -> the maps of ``out_indices``."""
        return self.run_stages(x, [getattr(self, name) for name in self.layers])
