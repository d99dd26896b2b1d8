"""ConvNeXt (arXiv:2201.03545) and ConvNeXt V2 (arXiv:2301.00808), with the names and arguments of mmpretrain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import torch
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.backbones.base import Backbone, freeze
from mmdet.models.layers.building import build_norm_layer, resolve_layer, run_checkpointed

# name -> blocks of each stage, channels of the first; each later stage has twice as many
ARCHITECTURES = {
    'atto': ((2, 2, 6, 2), 40),
    'femto': ((2, 2, 6, 2), 48),
    'pico': ((2, 2, 6, 2), 64),
    'nano': ((2, 2, 8, 2), 80),
    'tiny': ((3, 3, 9, 3), 96),
    'small': ((3, 3, 27, 3), 96),
    'base': ((3, 3, 27, 3), 128),
    'large': ((3, 3, 27, 3), 192),
    'xlarge': ((3, 3, 27, 3), 256),
    'huge': ((3, 3, 27, 3), 352),
}


class GRN(nn.Module):
    """Global response normalisation (arXiv:2301.00808, Eq. 1 to 3)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)``"""
        energy = x.norm(p=2, dim=(1, 2), keepdim=True)
        response = energy / (energy.mean(-1, keepdim=True) + self.eps)
        return x + self.gamma * (x * response) + self.beta


class ConvNeXtBlock(BaseModule):
    """Depthwise convolution, then two layers on each pixel, added to the input (Sec. 2.3 to 2.6).

    Args:
        linear_pw_conv: The layers on each pixel are linear ones rather than 1x1 convolutions, whose weights have two
            more axes.
        use_grn: Normalise between them as V2 does.
    """

    def __init__(
        self,
        in_channels: int,
        norm_cfg: dict,
        act_cfg: dict,
        mlp_ratio: float = 4.0,
        linear_pw_conv: bool = True,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        use_grn: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.with_cp, self.linear_pw_conv = with_cp, linear_pw_conv
        hidden = int(mlp_ratio * in_channels)
        layer = nn.Linear if linear_pw_conv else lambda before, after: nn.Conv2d(before, after, 1)
        self.depthwise_conv = nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels)
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]
        self.pointwise_conv1 = layer(in_channels, hidden)
        self.act = build_activation_layer(resolve_layer(act_cfg))
        self.grn = GRN(hidden) if use_grn else None
        self.pointwise_conv2 = layer(hidden, in_channels)
        self.gamma = None
        if layer_scale_init_value > 0:
            self.gamma = nn.Parameter(torch.full((in_channels,), float(layer_scale_init_value)))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)``, of which the result has the same shape."""
        return run_checkpointed(self._forward, x, self.with_cp)

    def _forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.depthwise_conv(x))
        if self.linear_pw_conv:
            out = out.permute(0, 2, 3, 1)
        out = self.act(self.pointwise_conv1(out))
        if self.grn is not None:
            out = self.grn(out) if self.linear_pw_conv else self.grn(out.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out = self.pointwise_conv2(out)
        if self.linear_pw_conv:
            out = out.permute(0, 3, 1, 2)
        if self.gamma is not None:
            out = out * self.gamma[:, None, None]
        return x + self.drop_path(out)


class ConvNeXt(Backbone):
    """A residual network brought up to the design of vision transformers.

    Args:
        arch: One of the named architectures, or a dict of ``depths`` and ``channels`` of each stage.
        stem_patch_size: Size and stride of the first convolution.
        drop_path_rate: Of the last block; it grows linearly from 0 at the first.
        layer_scale_init_value: Start of the factor on each block's branch; 0 leaves the factor out.
        out_indices: Stages that are given, a negative one counted from the end.
        frozen_stages: So many stages, with the down-sampling before them, stay as they are.
        gap_before_final_norm: Give the mean of each map, ``(B, C)``, as a classifier needs it. Detectors set it
            to False.
        with_cp: Compute activations of the blocks again in the backward pass.
    """

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        stem_patch_size: int = 4,
        norm_cfg: dict = dict(type='LN2d', eps=1e-6),
        act_cfg: dict = dict(type='GELU'),
        linear_pw_conv: bool = True,
        use_grn: bool = False,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = 0,
        gap_before_final_norm: bool = True,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = [
            dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=0.02, bias=0.0),
            dict(type='Constant', layer=['LayerNorm'], val=1.0, bias=0.0),
        ],
    ) -> None:
        super().__init__(init_cfg)
        self.depths, self.channels = _architecture(arch)
        self.num_stages = len(self.depths)
        given = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        self.out_indices = tuple(sorted(index + self.num_stages if index < 0 else index for index in given))
        if not all(0 <= index < self.num_stages for index in self.out_indices):
            raise UserValueError(f'out_indices={out_indices}: there are stages 0 to {self.num_stages - 1}')
        if not 0 <= frozen_stages <= self.num_stages:
            raise UserValueError(f'frozen_stages must be 0 to {self.num_stages}, got {frozen_stages}')
        self.frozen_stages = frozen_stages
        self.gap_before_final_norm = gap_before_final_norm

        first = nn.Conv2d(in_channels, self.channels[0], stem_patch_size, stem_patch_size)
        self.downsample_layers = ModuleList([nn.Sequential(first, _norm(norm_cfg, self.channels[0]))])
        for before, after in zip(self.channels, self.channels[1:]):
            self.downsample_layers.append(nn.Sequential(_norm(norm_cfg, before), nn.Conv2d(before, after, 2, 2)))

        shared = dict(norm_cfg=norm_cfg, act_cfg=act_cfg, linear_pw_conv=linear_pw_conv, use_grn=use_grn)
        shared.update(layer_scale_init_value=layer_scale_init_value, with_cp=with_cp)
        last = max(sum(self.depths) - 1, 1)
        starts = accumulate(self.depths, initial=0)
        self.stages = ModuleList(
            nn.Sequential(
                *(
                    ConvNeXtBlock(channels, drop_path_rate=drop_path_rate * (start + i) / last, **shared)
                    for i in range(depth)
                )
            )
            for depth, channels, start in zip(self.depths, self.channels, starts)
        )
        for index in self.out_indices:
            self.add_module(f'norm{index}', _norm(norm_cfg, self.channels[index]))
        self._freeze_stages()

    @property
    def feature_channels(self) -> list[int]:
        """Channels of each map that :meth:`forward` gives."""
        return [self.channels[index] for index in self.out_indices]

    def _freeze_stages(self) -> None:
        freeze(chain(self.downsample_layers[: self.frozen_stages], self.stages[: self.frozen_stages]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(B, in_channels, H, W)`` -> the maps of ``out_indices`` at strides 4, 8, 16, 32, or their means."""
        outs = []
        for index, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            x = stage(downsample(x))
            if index in self.out_indices:
                norm = getattr(self, f'norm{index}')
                outs.append(norm(x.mean((2, 3), keepdim=True)).flatten(1) if self.gap_before_final_norm else norm(x))
        return tuple(outs)


def _norm(norm_cfg: dict, channels: int) -> nn.Module:
    return build_norm_layer(norm_cfg, channels)[1]


def _architecture(arch: str | dict) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks and channels of each stage."""
    if isinstance(arch, dict):
        if not {'depths', 'channels'} <= set(arch) or len(arch['depths']) != len(arch['channels']):
            raise UserValueError(f'arch must have depths and channels of equally many stages, got {arch}')
        return tuple(arch['depths']), tuple(arch['channels'])
    if arch not in ARCHITECTURES:
        raise UserKeyError(f'ConvNeXt has no architecture {arch!r}, only {", ".join(ARCHITECTURES)}')
    depths, channels = ARCHITECTURES[arch]
    return depths, tuple(channels * 2**stage for stage in range(len(depths)))
