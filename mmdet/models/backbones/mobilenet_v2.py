"""MobileNetV2 (arXiv:1801.04381)."""

from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.backbones.base import Backbone, freeze
from mmdet.models.layers.building import conv_norm_init_cfg, make_divisible, pretrained_init_cfg, resolve_layer
from mmdet.models.layers.inverted_residual import InvertedResidual
from mmdet.registry import MODELS


@MODELS.register_module()
class MobileNetV2(Backbone):
    """MobileNetV2.

    Args:
        widen_factor: Factor on the channels of every layer.
        out_indices: 0 to 6 are the outputs of ``layer1`` to ``layer7``, 7 that of the last 1x1 convolution.
        frozen_stages: 0 freezes the first convolution, i also the layers up to i.
    """

    # expansion, channels, number of blocks, stride of the first (Table 2)
    arch_settings = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: tuple[int, ...] = (1, 2, 4, 7),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU6'),
        norm_eval: bool = False,
        with_cp: bool = False,
        pretrained: str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(pretrained_init_cfg(pretrained, init_cfg, conv_norm_init_cfg()))
        if not set(out_indices) <= set(range(8)):
            raise UserValueError(f'out_indices must be among 0 to 7, got {out_indices}')
        if frozen_stages not in range(-1, 8):
            raise UserValueError(f'frozen_stages must be -1 to 7, got {frozen_stages}')
        self.widen_factor = widen_factor
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.conv_cfg = resolve_layer(conv_cfg)
        self.norm_cfg = resolve_layer(norm_cfg)
        self.act_cfg = act_cfg
        self.norm_eval = norm_eval
        self.with_cp = with_cp

        shared = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=act_cfg)
        self.in_channels = make_divisible(32 * widen_factor, 8)
        self.conv1 = ConvModule(3, self.in_channels, 3, stride=2, padding=1, **shared)
        self.layers = []
        for i, (expansion, channels, num_blocks, stride) in enumerate(self.arch_settings):
            layer = self.make_layer(make_divisible(channels * widen_factor, 8), num_blocks, stride, expansion)
            self.add_module(f'layer{i + 1}', layer)
            self.layers.append(f'layer{i + 1}')
        self.out_channel = int(1280 * widen_factor) if widen_factor > 1.0 else 1280
        self.conv2 = ConvModule(self.in_channels, self.out_channel, 1, **shared)
        self.layers.append('conv2')

    def make_layer(self, out_channels: int, num_blocks: int, stride: int, expand_ratio: int) -> nn.Sequential:
        """Blocks of which the first has ``stride``; afterwards ``in_channels`` is ``out_channels``."""
        blocks = []
        for i in range(num_blocks):
            blocks.append(
                InvertedResidual(
                    self.in_channels,
                    out_channels,
                    mid_channels=round(self.in_channels * expand_ratio),
                    stride=stride if i == 0 else 1,
                    with_expand_conv=expand_ratio != 1,
                    conv_cfg=self.conv_cfg,
                    norm_cfg=self.norm_cfg,
                    act_cfg=self.act_cfg,
                    with_cp=self.with_cp,
                )
            )
            self.in_channels = out_channels
        return nn.Sequential(*blocks)

    def _freeze_stages(self) -> None:
        if self.frozen_stages >= 0:
            freeze([self.conv1, *(getattr(self, name) for name in self.layers[: self.frozen_stages])])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` -> the maps of ``out_indices``."""
        return self.run_stages(self.conv1(x), [getattr(self, name) for name in self.layers])
