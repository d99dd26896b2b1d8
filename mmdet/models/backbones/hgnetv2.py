"""HGNetV2 (PP-HGNetV2 of PaddleClas), the backbone of RT-DETR-L and X (arXiv:2304.08069), D-FINE and DEIM; DEIMv2
has smaller ones (arXiv:2509.20787, Sec. 3)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import MODELS

from .base import Backbone, freeze

# Of the stem: channels inside and after it. Of each stage: channels inside a layer and after a block, blocks, size of
# the kernels, layers in a block.
ARCHITECTURES = {
    'Atto': [(16, 16), (16, 64, 1, 3, 3), (32, 256, 1, 3, 3), (64, 256, 1, 3, 3)],
    'Femto': [(16, 16), (16, 64, 1, 3, 3), (32, 256, 1, 3, 3), (64, 512, 1, 5, 3)],
    'Pico': [(16, 16), (16, 64, 1, 3, 3), (32, 256, 1, 3, 3), (64, 512, 2, 5, 3)],
    'B0': [(16, 16), (16, 64, 1, 3, 3), (32, 256, 1, 3, 3), (64, 512, 2, 5, 3), (128, 1024, 1, 5, 3)],
    'B1': [(24, 32), (32, 64, 1, 3, 3), (48, 256, 1, 3, 3), (96, 512, 2, 5, 3), (192, 1024, 1, 5, 3)],
    'B2': [(24, 32), (32, 96, 1, 3, 4), (64, 384, 1, 3, 4), (128, 768, 3, 5, 4), (256, 1536, 1, 5, 4)],
    'B3': [(24, 32), (32, 128, 1, 3, 5), (64, 512, 1, 3, 5), (128, 1024, 3, 5, 5), (256, 2048, 1, 5, 5)],
    'B4': [(32, 48), (48, 128, 1, 3, 6), (96, 512, 1, 3, 6), (192, 1024, 3, 5, 6), (384, 2048, 1, 5, 6)],
    'B5': [(32, 64), (64, 128, 1, 3, 6), (128, 512, 2, 3, 6), (256, 1024, 5, 5, 6), (512, 2048, 2, 5, 6)],
    'B6': [(48, 96), (96, 192, 2, 3, 6), (192, 512, 3, 3, 6), (384, 1024, 6, 5, 6), (768, 2048, 3, 5, 6)],
}
LIGHT_FROM = 2  # stages from this one have depthwise convolutions


class LearnableAffine(nn.Module):
    """One scale and one shift for all channels, after an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of the same shape."""
        return self.scale * x + self.bias


class ConvNormAct(ConvModule):
    """Convolution and batch norm, then ReLU and, if wanted, a learnable affine map, where there is an activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        affine: bool = False,
        act: bool = True,
        **kw: Any,
    ) -> None:
        kw.setdefault('padding', kernel_size // 2)
        act_cfg = dict(type='ReLU') if act else None
        super().__init__(in_channels, out_channels, kernel_size, act_cfg=act_cfg, **kw)
        if affine and act:
            self.lab = LearnableAffine()
        self.with_affine = affine and act

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """``(B, C, H, W)`` -> ``(B, out, H / stride, W / stride)``."""
        x = super().forward(x)
        return self.lab(x) if self.with_affine else x


class LightConv(BaseModule):
    """A pointwise convolution without activation, then a depthwise one with it."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, **kw: Any) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, 1, act=False, **kw)
        self.conv2 = ConvNormAct(out_channels, out_channels, kernel_size, groups=out_channels, **kw)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H, W)``."""
        return self.conv2(self.conv1(x))


class Stem(BaseModule):
    """Four convolutions, the second pair beside a max pooling; a quarter of the height and width is left."""

    def __init__(self, channels: int, out_channels: int, **kw: Any) -> None:
        super().__init__()
        self.stem1 = ConvNormAct(3, channels, 3, stride=2, **kw)
        self.stem2a = ConvNormAct(channels, channels // 2, 2, padding=0, **kw)
        self.stem2b = ConvNormAct(channels // 2, channels, 2, padding=0, **kw)
        self.stem3 = ConvNormAct(channels * 2, channels, 3, stride=2, **kw)
        self.stem4 = ConvNormAct(channels, out_channels, 1, **kw)
        self.pool = nn.MaxPool2d(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 3, H, W)`` -> ``(B, out, H / 4, W / 4)``."""
        x = F.pad(self.stem1(x), (0, 1, 0, 1))  # kernels of 2 look right and down
        side = self.stem2b(F.pad(self.stem2a(x), (0, 1, 0, 1)))
        return self.stem4(self.stem3(torch.cat([self.pool(x), side], 1)))


class Block(BaseModule):
    """Layers one after another, whose outputs are all brought together, squeezed and widened again."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        out_channels: int,
        num_layers: int,
        kernel_size: int,
        light: bool,
        residual: bool,
        **kw: Any,
    ) -> None:
        super().__init__()
        layer = LightConv if light else ConvNormAct
        widths = [in_channels] + [channels] * num_layers
        self.layers = nn.ModuleList([layer(a, b, kernel_size, **kw) for a, b in zip(widths, widths[1:])])
        self.aggregation = nn.Sequential(
            ConvNormAct(sum(widths), out_channels // 2, 1, **kw), ConvNormAct(out_channels // 2, out_channels, 1, **kw)
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H, W)``."""
        outs = [x]
        for layer in self.layers:
            outs.append(layer(outs[-1]))
        out = self.aggregation(torch.cat(outs, 1))
        return out + x if self.residual else out


class Stage(BaseModule):
    """Blocks after a depthwise convolution that halves height and width; the first stage has none."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        out_channels: int,
        num_blocks: int,
        kernel_size: int,
        num_layers: int,
        downsample: bool,
        light: bool,
        norm_cfg: dict,
        affine: bool,
    ) -> None:
        super().__init__()
        self.downsample = nn.Identity()
        if downsample:
            halve = dict(stride=2, groups=in_channels, act=False, norm_cfg=norm_cfg)
            self.downsample = ConvNormAct(in_channels, in_channels, 3, **halve)
        widths = [in_channels] + [out_channels] * num_blocks
        shared = dict(norm_cfg=norm_cfg, affine=affine)
        blocks = [
            Block(a, channels, b, num_layers, kernel_size, light, residual=i > 0, **shared)
            for i, (a, b) in enumerate(zip(widths, widths[1:]))
        ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H / 2, W / 2)``, or of the same size in the first stage."""
        return self.blocks(self.downsample(x))


@MODELS.register_module()
class HGNetV2(Backbone):
    """HGNetV2 with the names of weights of the D-FINE releases and of timm.

    Args:
        arch: 'B0' to 'B6', or 'Atto', 'Femto' and 'Pico', which lack the last stage of B0.
        out_indices: Stages, counted from 0, whose outputs are wanted; their strides are 4, 8, 16, 32.
        frozen_stages: -1 freezes nothing, 0 the stem, i also the stages before stage i.
        use_lab: Whether a learnable affine map follows each activation.
    """

    def __init__(
        self,
        arch: str = 'B4',
        out_indices: tuple[int, ...] = (1, 2, 3),
        frozen_stages: int = -1,
        use_lab: bool = False,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if arch not in ARCHITECTURES:
            raise UserKeyError(f'HGNetV2 has no arch {arch!r}, but {", ".join(ARCHITECTURES)}')
        (stem, width), *stages = ARCHITECTURES[arch]
        if not set(out_indices) <= set(range(len(stages))):
            raise UserValueError(f'out_indices of HGNetV2 must be among 0 to {len(stages) - 1}, got {out_indices}')
        if frozen_stages not in range(-1, len(stages) + 1):
            raise UserValueError(f'frozen_stages must be -1 to {len(stages)}, got {frozen_stages}')
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.stem = Stem(stem, width, norm_cfg=norm_cfg, affine=use_lab)
        self.stages = nn.ModuleList()
        for i, (channels, out, *rest) in enumerate(stages):
            stage = Stage(width, channels, out, *rest, i > 0, i >= LIGHT_FROM, norm_cfg=norm_cfg, affine=use_lab)
            self.stages.append(stage)
            width = out

    def _freeze_stages(self) -> None:
        if self.frozen_stages >= 0:
            freeze([self.stem, *self.stages[: self.frozen_stages]])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` -> the maps of ``out_indices``."""
        return self.run_stages(self.stem(x), self.stages)
