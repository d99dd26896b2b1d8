"""The hybrid encoder of RT-DETR (arXiv:2304.08069, Sec. 4.2). Letters: B images, C channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import remembered
from mmdet.models.layers.rep_layer import CSPRepLayer
from mmdet.models.layers.transformer import DetrTransformerEncoder
from mmdet.registry import MODELS

from .levels import check_channels, check_maps


def waves_of_cells(height: int, width: int, channels: int, temperature: float, y_first: bool, like: Tensor) -> Tensor:
    """``(1, H * W, C)``: sines of x, cosines of x, sines of y, cosines of y of the cells, row by row, or y first."""
    lengths = torch.arange(channels // 4, dtype=torch.float32, device=like.device) / (channels // 4)
    phases = [
        torch.arange(size, dtype=torch.float32, device=like.device)[:, None] * temperature**-lengths
        for size in (width, height)
    ]
    x, y = phases[0].expand(height, -1, -1), phases[1][:, None].expand(-1, width, -1)
    order = (y, x) if y_first else (x, y)
    return torch.cat([wave for place in order for wave in (place.sin(), place.cos())], -1).flatten(0, 1)[None].to(like)


@MODELS.register_module()
class HybridEncoder(BaseModule):
    """Attention within the coarsest map (AIFI), then a pyramid down and up again (CCFF).

    Args:
        in_channels: Of the inputs, fine to coarse, each half the size of the one before.
        out_channels: C of all maps.
        decoder_channels: Of the outputs, which a 1x1 convolution brings to the decoder; None for C and no convolution.
        encode_levels: Which inputs attend to themselves, by index.
        encoder: Arguments of the :class:`DetrTransformerEncoder` of each of them.
        temperature: Ratio of the longest to the shortest wave of the positions.
        num_blocks: Convolutions in a fusion block.
        expand_ratio: Channels in a fusion block, in parts of C.
    """

    y_first = False  # of what the waves of a position tell

    def __init__(
        self,
        in_channels: Sequence[int] = (512, 1024, 2048),
        out_channels: int = 256,
        encode_levels: Sequence[int] = (2,),
        encoder: dict = dict(
            num_layers=1,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
                ffn_cfg=dict(embed_dims=256, feedforward_channels=1024, ffn_drop=0.0, act_cfg=dict(type='GELU')),
            ),
        ),
        temperature: float = 10000,
        num_blocks: int = 3,
        expand_ratio: float = 1.0,
        decoder_channels: int | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='SiLU', inplace=True),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_channels(in_channels)
        if not set(encode_levels) <= set(range(len(in_channels))):
            raise UserValueError(f'encode_levels must be among 0 to {len(in_channels) - 1}, got {encode_levels}')
        if out_channels % 4:
            raise UserValueError(f'out_channels of {type(self).__name__} must be a multiple of 4, got {out_channels}')
        self._known_waves: dict = {}
        self.encode_levels = tuple(encode_levels)
        self.temperature = temperature
        self.num_blocks = num_blocks
        self.expand_ratio = expand_ratio
        self.conv_cfg: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.linear_cfg = linear = dict(norm_cfg=norm_cfg, act_cfg=None)
        steps = range(len(in_channels) - 1)
        self.input_proj = nn.ModuleList([ConvModule(width, out_channels, 1, **linear) for width in in_channels])
        self.encoder = nn.ModuleList([DetrTransformerEncoder(**encoder) for _ in self.encode_levels])
        self.lateral_convs = nn.ModuleList([self._lateral(out_channels) for _ in steps])
        self.fpn_blocks = nn.ModuleList([self._fusion(out_channels) for _ in steps])
        self.downsample_convs = nn.ModuleList([self._downsample(out_channels) for _ in steps])
        self.pan_blocks = nn.ModuleList([self._fusion(out_channels) for _ in steps])
        project = lambda: ConvModule(out_channels, decoder_channels, 1, **linear) if decoder_channels else nn.Identity()
        self.decoder_proj = nn.ModuleList([project() for _ in in_channels])

    def _lateral(self, channels: int) -> nn.Module:
        return ConvModule(channels, channels, 1, **self.conv_cfg)

    def _downsample(self, channels: int) -> nn.Module:
        return ConvModule(channels, channels, 3, stride=2, padding=1, **self.conv_cfg)

    def _fusion(self, channels: int) -> nn.Module:
        return CSPRepLayer(channels * 2, channels, self.num_blocks, self.expand_ratio, **self.conv_cfg)

    def _merge(self, one: Tensor, other: Tensor) -> Tensor:
        """What a fusion block takes of two maps of a level."""
        return torch.cat([one, other], 1)

    def _attend(self, encoder: nn.Module, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        make = lambda: waves_of_cells(*size, x.shape[1], self.temperature, self.y_first, x)
        place = remembered(self._known_waves, (*size, x.dtype), x, make)
        cells = encoder(x.flatten(2).transpose(1, 2), place, None)
        return cells.transpose(1, 2).unflatten(2, x.shape[-2:])

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """``[(B, C_i, H_i, W_i)]`` -> ``[(B, C or decoder_channels, H_i, W_i)]``."""
        check_maps(self, inputs, len(self.input_proj))
        maps = [project(x) for project, x in zip(self.input_proj, inputs)]
        for level, encoder in zip(self.encode_levels, self.encoder):
            maps[level] = self._attend(encoder, maps[level])
        for step, (lateral, fuse) in enumerate(zip(self.lateral_convs, self.fpn_blocks)):
            low = len(maps) - 2 - step
            maps[low + 1] = lateral(maps[low + 1])
            above = F.interpolate(maps[low + 1], size=maps[low].shape[-2:], mode='nearest')
            maps[low] = fuse(self._merge(above, maps[low]))
        for step, (downsample, fuse) in enumerate(zip(self.downsample_convs, self.pan_blocks)):
            maps[step + 1] = fuse(self._merge(downsample(maps[step]), maps[step + 1]))
        return tuple(project(x) for project, x in zip(self.decoder_proj, maps))
