"""The projector of LW-DETR (arXiv:2406.03459, Sec. 3.1) and RF-DETR. Letters: B images, C channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.layer_norm import LN2d
from mmdet.registry import MODELS

from .levels import check_channels, check_maps

SCALES = (0.5, 1.0, 2.0)
WIDE = 512  # maps with more channels than this are narrowed before they are enlarged


class C2fLayer(BaseModule):
    """Half of the channels put through one bottleneck after another; all results are mixed (C2f of YOLOv8)."""

    def __init__(
        self, in_channels: int, out_channels: int, num_blocks: int, expand_ratio: float, norm_cfg: dict, act_cfg: dict
    ) -> None:
        super().__init__()
        shared = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        width = int(out_channels * expand_ratio)
        conv = lambda: ConvModule(width, width, 3, padding=1, **shared)
        self.conv1 = ConvModule(in_channels, 2 * width, 1, **shared)
        self.bottlenecks = nn.ModuleList([nn.Sequential(conv(), conv()) for _ in range(num_blocks)])
        self.conv2 = ConvModule((2 + num_blocks) * width, out_channels, 1, **shared)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H, W)``."""
        parts = list(self.conv1(x).chunk(2, 1))
        for bottleneck in self.bottlenecks:
            parts.append(bottleneck(parts[-1]))
        return self.conv2(torch.cat(parts, 1))


def resampling(channels: int, scale: float, norm_cfg: dict) -> tuple[nn.Sequential, int]:
    """What changes the size of maps by ``scale``, and the channels that it gives."""
    narrow = dict(norm_cfg=norm_cfg, act_cfg=dict(type='ReLU'))
    if scale == 1.0:
        return nn.Sequential(), channels
    if scale == 0.5:
        return nn.Sequential(ConvModule(channels, channels, 3, stride=2, padding=1, **narrow)), channels
    layers: list[nn.Module] = []
    if channels > WIDE:
        layers.append(ConvModule(channels, channels // 2, 1, **narrow))
        channels //= 2
    layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
    return nn.Sequential(*layers), channels // 2


@MODELS.register_module()
class C2fProjector(BaseModule):
    """All maps of a plain ViT, which are of one size, mixed into one map for each scale.

    Args:
        in_channels: Of the inputs.
        scales: Of the outputs relative to the inputs, fine to coarse: 2, 1 or 0.5.
        num_blocks: Bottlenecks of each mixer.
        expand_ratio: Channels of a bottleneck in parts of ``out_channels``.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (192, 192, 192, 192),
        out_channels: int = 256,
        scales: Sequence[float] = (1.0,),
        num_blocks: int = 3,
        expand_ratio: float = 0.5,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='SiLU', inplace=True),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_channels(in_channels)
        if not scales or not set(scales) <= set(SCALES):
            raise UserValueError(f'scales must be some of {", ".join(map(str, SCALES))}, got {tuple(scales)}')
        self.num_inputs = len(in_channels)
        self.samplers, self.mixers, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for scale in scales:
            found = [resampling(channels, scale, norm_cfg) for channels in in_channels]
            self.samplers.append(nn.ModuleList([module for module, _ in found]))
            width = sum(channels for _, channels in found)
            self.mixers.append(C2fLayer(width, out_channels, num_blocks, expand_ratio, norm_cfg, act_cfg))
            self.norms.append(LN2d(out_channels, eps=1e-6))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """``[(B, C_i, H, W)]`` -> one ``(B, out, scale * H, scale * W)`` for each scale."""
        check_maps(self, inputs, self.num_inputs)
        levels = zip(self.samplers, self.mixers, self.norms)
        return tuple(norm(mix(torch.cat([s(x) for s, x in zip(sample, inputs)], 1))) for sample, mix, norm in levels)
