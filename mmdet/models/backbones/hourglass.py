"""Stacked hourglass network (arXiv:1603.06937) as CornerNet (arXiv:1808.01244) uses it."""

from __future__ import annotations

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.backbones.resnet import BasicBlock
from mmdet.models.layers.building import resolve_layer
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS


class HourglassModule(BaseModule):
    """A branch at full size and one at half size, which is an hourglass again until ``depth`` is 1.

    Args:
        stage_channels, stage_blocks: Of this size and the halved ones.
    """

    def __init__(
        self,
        depth: int,
        stage_channels: list[int],
        stage_blocks: list[int],
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        upsample_cfg: dict | None = dict(mode='nearest'),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.depth = depth
        channels, inner = stage_channels[:2]
        num_blocks, num_inner = stage_blocks[:2]
        self.up1 = ResLayer(BasicBlock, channels, channels, num_blocks, norm_cfg=norm_cfg)
        self.low1 = ResLayer(BasicBlock, channels, inner, num_blocks, stride=2, norm_cfg=norm_cfg)
        if depth > 1:
            self.low2 = HourglassModule(depth - 1, stage_channels[1:], stage_blocks[1:], norm_cfg, upsample_cfg)
        else:
            self.low2 = ResLayer(BasicBlock, inner, inner, num_inner, norm_cfg=norm_cfg)
        self.low3 = ResLayer(BasicBlock, inner, channels, num_blocks, norm_cfg=norm_cfg, downsample_first=False)
        self.upsample_cfg = dict(upsample_cfg or {})

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of the same shape."""
        fine = self.up1(x)
        coarse = self.low3(self.low2(self.low1(x)))
        size = {} if 'scale_factor' in self.upsample_cfg else dict(size=fine.shape[2:])
        return fine + F.interpolate(coarse, **size, **self.upsample_cfg)


@MODELS.register_module()
class HourglassNet(BaseModule):
    """Hourglasses one after the other, returning the output of each at stride 4.

    Args:
        downsample_times: How often an hourglass halves the size.
        stage_channels, stage_blocks: Of each size, the full one first.
        feat_channel: Channels of the outputs.
    """

    def __init__(
        self,
        downsample_times: int = 5,
        num_stacks: int = 2,
        stage_channels: tuple[int, ...] = (256, 256, 384, 384, 384, 512),
        stage_blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 4),
        feat_channel: int = 256,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_stacks < 1:
            raise UserValueError(f'num_stacks must be at least 1, got {num_stacks}')
        if not len(stage_channels) == len(stage_blocks) > downsample_times:
            raise UserValueError(
                f'stage_channels {stage_channels} and stage_blocks {stage_blocks} must name the '
                f'{downsample_times + 1} sizes of downsample_times={downsample_times}'
            )
        self.num_stacks = num_stacks
        norm_cfg = resolve_layer(norm_cfg)
        channels = stage_channels[0]
        self.stem = nn.Sequential(
            ConvModule(3, channels // 2, 7, padding=3, stride=2, norm_cfg=norm_cfg),
            ResLayer(BasicBlock, channels // 2, channels, 1, stride=2, norm_cfg=norm_cfg),
        )
        self.hourglass_modules = nn.ModuleList(
            HourglassModule(downsample_times, stage_channels, stage_blocks, norm_cfg) for _ in range(num_stacks)
        )
        self.inters = ResLayer(BasicBlock, channels, channels, num_stacks - 1, norm_cfg=norm_cfg)
        self.conv1x1s = nn.ModuleList(
            ConvModule(channels, channels, 1, norm_cfg=norm_cfg, act_cfg=None) for _ in range(num_stacks - 1)
        )
        self.out_convs = nn.ModuleList(
            ConvModule(channels, feat_channel, 3, padding=1, norm_cfg=norm_cfg) for _ in range(num_stacks)
        )
        self.remap_convs = nn.ModuleList(
            ConvModule(feat_channel, channels, 1, norm_cfg=norm_cfg, act_cfg=None) for _ in range(num_stacks - 1)
        )
        self.relu = nn.ReLU(inplace=True)

    def init_weights(self) -> None:
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images -> one map ``(B, C, H / 4, W / 4)`` for each stack."""
        x = self.stem(x)
        outs = []
        for i in range(self.num_stacks):
            outs.append(self.out_convs[i](self.hourglass_modules[i](x)))
            if i < self.num_stacks - 1:
                x = self.inters[i](self.relu(self.conv1x1s[i](x) + self.remap_convs[i](outs[-1])))
        return outs
