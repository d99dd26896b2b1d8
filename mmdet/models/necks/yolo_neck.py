"""The neck of YOLOv3 (arXiv:1804.02767)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmdet.models.layers.building import conv_module_options
from mmdet.models.necks.levels import check_maps, check_scales
from mmdet.registry import MODELS


class DetectionBlock(BaseModule):
    """Five convolutions, 1x1 and 3x3 in turn."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        act_cfg: dict = dict(type='LeakyReLU', negative_slope=0.1),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        self.conv1 = ConvModule(in_channels, out_channels, 1, **shared)
        self.conv2 = ConvModule(out_channels, out_channels * 2, 3, padding=1, **shared)
        self.conv3 = ConvModule(out_channels * 2, out_channels, 1, **shared)
        self.conv4 = ConvModule(out_channels, out_channels * 2, 3, padding=1, **shared)
        self.conv5 = ConvModule(out_channels * 2, out_channels, 1, **shared)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out_channels, H, W)``."""
        return self.conv5(self.conv4(self.conv3(self.conv2(self.conv1(x)))))


@MODELS.register_module()
class YOLOV3Neck(BaseModule):
    """Top-down path by concatenation.

    Args:
        in_channels, out_channels: Of each scale, coarsest first; the inputs come finest first, the outputs coarsest
            first.
    """

    coarsest_first = True  # in the lists of channels; the maps come finest first

    def __init__(
        self,
        num_scales: int,
        in_channels: list[int],
        out_channels: list[int],
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        act_cfg: dict = dict(type='LeakyReLU', negative_slope=0.1),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_scales(num_scales, in_channels, out_channels)
        self.num_scales = num_scales
        self.in_channels = in_channels
        self.out_channels = out_channels
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        self.detect1 = DetectionBlock(in_channels[0], out_channels[0], **shared)
        for i in range(1, num_scales):
            self.add_module(f'conv{i}', ConvModule(out_channels[i - 1], out_channels[i], 1, **shared))
            block = DetectionBlock(in_channels[i] + out_channels[i], out_channels[i], **shared)
            self.add_module(f'detect{i + 1}', block)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of the backbone, finest first -> one map for each, coarsest first."""
        check_maps(self, feats, self.num_scales)
        outs = [self.detect1(feats[-1])]
        for i, fine in enumerate(reversed(feats[:-1]), start=1):
            coarse = F.interpolate(getattr(self, f'conv{i}')(outs[-1]), scale_factor=2)
            outs.append(getattr(self, f'detect{i + 1}')(torch.cat((coarse, fine), dim=1)))
        return tuple(outs)
