"""RegNet (arXiv:2003.13678)."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from torch import nn

from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.backbones.resnet import Bottleneck as _Bottleneck
from mmdet.models.backbones.resnet import ResNet
from mmdet.models.layers.building import build_conv_layer, build_norm_layer
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS


class Bottleneck(_Bottleneck):
    """The X block (Fig. 4): no expansion, ``base_width`` channels in each group."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, groups: int = 1, base_width: int = 4, **kwargs: Any) -> None:
        super().__init__(inplanes, planes, width=groups * base_width, groups=groups, **kwargs)


@MODELS.register_module()
class RegNet(ResNet):
    """RegNet, whose widths follow a quantised line (Sec. 3.3).

    Args:
        arch: Name of a published network, or its parameters ``dict(w0=, wa=, wm=, group_w=, depth=, bot_mul=)``.
        strides: Strides of the stages; the stem halves the size once more.
    """

    arch_settings = {
        'regnetx_400mf': dict(w0=24, wa=24.48, wm=2.54, group_w=16, depth=22, bot_mul=1.0),
        'regnetx_800mf': dict(w0=56, wa=35.73, wm=2.28, group_w=16, depth=16, bot_mul=1.0),
        'regnetx_1.6gf': dict(w0=80, wa=34.01, wm=2.25, group_w=24, depth=18, bot_mul=1.0),
        'regnetx_3.2gf': dict(w0=88, wa=26.31, wm=2.25, group_w=48, depth=25, bot_mul=1.0),
        'regnetx_4.0gf': dict(w0=96, wa=38.65, wm=2.43, group_w=40, depth=23, bot_mul=1.0),
        'regnetx_6.4gf': dict(w0=184, wa=60.83, wm=2.07, group_w=56, depth=17, bot_mul=1.0),
        'regnetx_8.0gf': dict(w0=80, wa=49.56, wm=2.88, group_w=120, depth=23, bot_mul=1.0),
        'regnetx_12gf': dict(w0=168, wa=73.36, wm=2.37, group_w=112, depth=19, bot_mul=1.0),
    }

    def __init__(
        self,
        arch: str | dict,
        in_channels: int = 3,
        stem_channels: int = 32,
        base_channels: int = 32,
        strides: tuple[int, ...] = (2, 2, 2, 2),
        dilations: tuple[int, ...] = (1, 1, 1, 1),
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        style: str = 'pytorch',
        deep_stem: bool = False,
        avg_down: bool = False,
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        norm_eval: bool = True,
        dcn: dict | None = None,
        stage_with_dcn: tuple[bool, ...] = (False, False, False, False),
        plugins: list[dict] | None = None,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        pretrained: str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if deep_stem:
            raise UserValueError('RegNet has no deep stem (deep_stem=True)')
        self.arch = arch
        super().__init__(
            depth=arch,
            in_channels=in_channels,
            stem_channels=stem_channels,
            base_channels=base_channels,
            num_stages=len(strides),
            strides=strides,
            dilations=dilations,
            out_indices=out_indices,
            style=style,
            avg_down=avg_down,
            frozen_stages=frozen_stages,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            norm_eval=norm_eval,
            dcn=dcn,
            stage_with_dcn=stage_with_dcn,
            plugins=plugins,
            with_cp=with_cp,
            zero_init_residual=zero_init_residual,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )

    def _layout(self, depth: str | dict, base_channels: int) -> tuple[type, list[int], list[int]]:
        if isinstance(depth, str) and depth not in self.arch_settings:
            raise UserKeyError(f'RegNet has no arch {depth!r}, but {", ".join(self.arch_settings)}')
        parameters = self.arch_settings[depth] if isinstance(depth, str) else depth
        block_widths, _ = self.generate_regnet(
            parameters['w0'], parameters['wa'], parameters['wm'], parameters['depth']
        )
        widths, blocks = self.get_stages_from_blocks(block_widths)
        self.bottleneck_ratio = [parameters['bot_mul']] * len(widths)
        self.stage_widths, self.group_widths = self.adjust_width_group(
            widths, self.bottleneck_ratio, [parameters['group_w']] * len(widths)
        )
        return Bottleneck, blocks, self.stage_widths

    def generate_regnet(
        self, initial_width: int, width_slope: float, width_parameter: float, depth: int, divisor: int = 8
    ) -> tuple[list[int], int]:
        """The width of each block (Eqs. 2 to 4) and the number of stages."""
        linear = initial_width + width_slope * np.arange(depth)
        exponents = np.round(np.log(linear / initial_width) / np.log(width_parameter))
        widths = np.round(initial_width * width_parameter**exponents / divisor).astype(int) * divisor
        return widths.tolist(), len(np.unique(widths))

    @staticmethod
    def quantize_float(number: float, divisor: int) -> int:
        """The multiple of ``divisor`` nearest to ``number``."""
        return round(number / divisor) * divisor

    def adjust_width_group(
        self, widths: list[int], bottleneck_ratio: list[float], groups: list[int]
    ) -> tuple[list[int], list[int]]:
        """Widths that are multiples of their group widths, and the group widths, at most the bottleneck's."""
        inner = [int(width * ratio) for width, ratio in zip(widths, bottleneck_ratio, strict=True)]
        groups = [min(group, width) for group, width in zip(groups, inner, strict=True)]
        inner = [self.quantize_float(width, group) for width, group in zip(inner, groups, strict=True)]
        return [int(width / ratio) for width, ratio in zip(inner, bottleneck_ratio, strict=True)], groups

    @staticmethod
    def get_stages_from_blocks(widths: list[int]) -> tuple[list[int], list[int]]:
        """The widths of the stages and how many blocks each has."""
        stages = [(width, len(list(blocks))) for width, blocks in groupby(widths)]
        return [width for width, _ in stages], [count for _, count in stages]

    def _zero_init_cfg(self) -> dict:
        return dict(type='Constant', val=0, override=dict(name='norm3'))

    def make_res_layer(self, **kwargs: Any) -> ResLayer:
        """The next stage, with the groups that its width gives."""
        stage = len(self.res_layers)
        base_width = self.group_widths[stage]
        groups = round(self.stage_widths[stage] * self.bottleneck_ratio[stage]) // base_width
        return ResLayer(groups=groups, base_width=base_width, **kwargs)

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        self.conv1 = build_conv_layer(self.conv_cfg, in_channels, stem_channels, 3, stride=2, padding=1, bias=False)
        self.norm1_name, norm1 = build_norm_layer(self.norm_cfg, stem_channels, postfix=1)
        self.add_module(self.norm1_name, norm1)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()
