"""ResNet (arXiv:1512.03385) and its variants V1c and V1d (arXiv:1812.01187)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.backbones.base import Backbone, freeze
from mmdet.models.layers.building import (
    build_conv_layer,
    build_norm_layer,
    build_plugin_layer,
    conv_norm_init_cfg,
    named_norm,
    pretrained_init_cfg,
    run_checkpointed,
)
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS

PLUGIN_POSITIONS = ('after_conv1', 'after_conv2', 'after_conv3')


def _check_style(style: str) -> None:
    if style not in ('pytorch', 'caffe'):
        raise UserValueError(f"style must be 'pytorch' or 'caffe', got {style!r}")


class BasicBlock(BaseModule):
    """Two 3x3 convolutions beside a shortcut (Sec. 3.3)."""

    expansion = 1
    norm1, norm2 = named_norm(1), named_norm(2)

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = 'pytorch',
        with_cp: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        dcn: dict | None = None,
        plugins: list[dict] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if dcn is not None or plugins is not None:
            raise UserValueError(
                f'the basic blocks of ResNet-18 and ResNet-34 take neither dcn ({dcn!r}) nor plugins ({plugins!r})'
            )
        self.norm1_name, norm1 = build_norm_layer(norm_cfg, planes, postfix=1)
        self.norm2_name, norm2 = build_norm_layer(norm_cfg, planes, postfix=2)
        self.conv1 = build_conv_layer(
            conv_cfg, inplanes, planes, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        )
        self.add_module(self.norm1_name, norm1)
        self.conv2 = build_conv_layer(conv_cfg, planes, planes, 3, padding=1, bias=False)
        self.add_module(self.norm2_name, norm2)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.stride = stride
        self.dilation = dilation
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, planes, H / stride, W / stride)``."""
        return self.relu(run_checkpointed(self._forward, x, self.with_cp))

    def _forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return out


class Bottleneck(BaseModule):
    """1x1, 3x3 and 1x1 convolutions with a shortcut.

    Args:
        style: The stride is in the 3x3 convolution ('pytorch') or in the first 1x1 ('caffe').
        dcn: Config of the deformable convolution in place of the 3x3 one; with ``fallback_on_stride=True`` the 3x3
            convolution stays ordinary.
        plugins: ``dict(cfg=..., position=...)`` each, with a position of ``after_conv1``, ``after_conv2`` or
            ``after_conv3``.
        width: Channels of the inner convolutions, ``planes`` if not given.
        groups: Groups of the 3x3 convolution.
    """

    expansion = 4
    norm1, norm2, norm3 = named_norm(1), named_norm(2), named_norm(3)

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = 'pytorch',
        with_cp: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        dcn: dict | None = None,
        plugins: list[dict] | None = None,
        init_cfg: dict | list[dict] | None = None,
        *,
        width: int | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__(init_cfg)
        _check_style(style)
        for plugin in plugins or ():
            if plugin['position'] not in PLUGIN_POSITIONS:
                raise UserValueError(
                    f'position of a plugin must be one of {PLUGIN_POSITIONS}, got {plugin["position"]!r}'
                )
        width = width or planes
        self.inplanes = inplanes
        self.planes = planes
        self.stride = stride
        self.dilation = dilation
        self.style = style
        self.with_cp = with_cp
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg
        self.dcn = dcn
        self.with_dcn = dcn is not None
        self.plugins = plugins
        self.with_plugins = plugins is not None
        self.conv1_stride, self.conv2_stride = (1, stride) if style == 'pytorch' else (stride, 1)

        self.norm1_name, norm1 = build_norm_layer(norm_cfg, width, postfix=1)
        self.norm3_name, norm3 = build_norm_layer(norm_cfg, planes * self.expansion, postfix=3)
        self.conv1 = build_conv_layer(conv_cfg, inplanes, width, 1, stride=self.conv1_stride, bias=False)
        self.add_module(self.norm1_name, norm1)
        self._make_conv2(self._conv2_cfg(), width, groups)
        self.conv3 = build_conv_layer(conv_cfg, width, planes * self.expansion, 1, bias=False)
        self.add_module(self.norm3_name, norm3)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

        if plugins is not None:
            for position, channels in zip(PLUGIN_POSITIONS, (width, width, planes * self.expansion), strict=True):
                chosen = [plugin['cfg'] for plugin in plugins if plugin['position'] == position]
                setattr(self, f'{position}_plugin_names', self.make_block_plugins(channels, chosen))

    def _conv2_cfg(self) -> dict | None:
        if self.dcn is None:
            return self.conv_cfg
        cfg = dict(self.dcn)
        if cfg.pop('fallback_on_stride', False):
            return self.conv_cfg
        if self.conv_cfg is not None:
            raise UserValueError(f'dcn ({self.dcn!r}) cannot stand beside conv_cfg ({self.conv_cfg!r})')
        return cfg

    def _make_conv2(self, cfg: dict | None, width: int, groups: int) -> None:
        stride, dilation = self.conv2_stride, self.dilation
        self.conv2 = build_conv_layer(
            cfg, width, width, 3, stride=stride, padding=dilation, dilation=dilation, groups=groups, bias=False
        )
        self.norm2_name, norm2 = build_norm_layer(self.norm_cfg, width, postfix=2)
        self.add_module(self.norm2_name, norm2)

    def make_block_plugins(self, in_channels: int, plugins: list[dict]) -> list[str]:
        """Add the layers of ``plugins`` and return their attribute names."""
        names = []
        for plugin in plugins:
            cfg = dict(plugin)
            name, layer = build_plugin_layer(cfg, postfix=cfg.pop('postfix', ''), in_channels=in_channels)
            if hasattr(self, name):
                raise UserValueError(f'two plugins are called {name!r}; give one of them a postfix')
            self.add_module(name, layer)
            names.append(name)
        return names

    def forward_plugin(self, x: Tensor, plugin_names: list[str]) -> Tensor:
        """``x`` through the plugins of these names, one after the other."""
        for name in plugin_names:
            x = getattr(self, name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, 4 * planes, H / stride, W / stride)``."""
        return self.relu(run_checkpointed(self._forward, x, self.with_cp))

    def _forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        if self.with_plugins:
            out = self.forward_plugin(out, self.after_conv1_plugin_names)
        out = self._forward_conv2(out)
        if self.with_plugins:
            out = self.forward_plugin(out, self.after_conv2_plugin_names)
        out = self.norm3(self.conv3(out))
        if self.with_plugins:
            out = self.forward_plugin(out, self.after_conv3_plugin_names)
        out += x if self.downsample is None else self.downsample(x)
        return out

    def _forward_conv2(self, x: Tensor) -> Tensor:
        return self.relu(self.norm2(self.conv2(x)))


@MODELS.register_module()
class ResNet(Backbone):
    """ResNet, returning the outputs of the stages ``out_indices`` as a tuple.

    Args:
        style: The stride is in the 3x3 convolution ('pytorch') or in the first 1x1 ('caffe').
        deep_stem: Three 3x3 convolutions in place of the 7x7 one.
        frozen_stages: Stages whose parameters and statistics stay as they are: -1 none, 0 the stem, i also the
            stages up to i.
        norm_eval: Batch norm layers keep their running statistics while training.
        dcn: Config of the deformable convolutions, used in the stages chosen by ``stage_with_dcn``.
        plugins: ``dict(cfg=, stages=, position=)`` each; ``stages`` chooses by booleans, all if missing.
        with_cp: Compute activations again in the backward pass, for less memory.
        zero_init_residual: The last norm layer of each block starts at zero (only without ``init_cfg``).
    """

    arch_settings = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }
    norm1 = named_norm(1)

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        stem_channels: int | None = None,
        base_channels: int = 64,
        num_stages: int = 4,
        strides: tuple[int, ...] = (1, 2, 2, 2),
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
        self.zero_init_residual = zero_init_residual
        if not 1 <= num_stages <= 4:
            raise UserValueError(f'num_stages must be 1 to 4, got {num_stages}')
        if not len(strides) == len(dilations) == num_stages:
            raise UserValueError(
                f'strides {strides} and dilations {dilations} must name each of the {num_stages} stages (num_stages)'
            )
        if max(out_indices) >= num_stages:
            raise UserValueError(f'out_indices {out_indices} name a stage beyond num_stages={num_stages}')
        if dcn is not None and len(stage_with_dcn) != num_stages:
            raise UserValueError(f'stage_with_dcn {stage_with_dcn} must name each of the {num_stages} stages')
        _check_style(style)

        layout = self._layout(depth, base_channels)

        starts_here = pretrained is None and init_cfg is None
        super().__init__(pretrained_init_cfg(pretrained, init_cfg, conv_norm_init_cfg()))
        self.depth = depth
        stem_channels = stem_channels or base_channels
        self.stem_channels = stem_channels
        self.base_channels = base_channels
        self.num_stages = num_stages
        self.strides = strides
        self.dilations = dilations
        self.out_indices = out_indices
        self.style = style
        self.deep_stem = deep_stem
        self.avg_down = avg_down
        self.frozen_stages = frozen_stages
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg
        self.with_cp = with_cp
        self.norm_eval = norm_eval
        self.dcn = dcn
        self.stage_with_dcn = stage_with_dcn
        self.plugins = plugins
        self.block, stage_blocks, stage_planes = layout
        self.stage_blocks = stage_blocks[:num_stages]
        self.inplanes = stem_channels
        block_init_cfg = None
        if starts_here and zero_init_residual:
            block_init_cfg = self._zero_init_cfg()

        self._make_stem_layer(in_channels, stem_channels)
        self.res_layers = []
        for i, num_blocks in enumerate(self.stage_blocks):
            planes = stage_planes[i]
            layer = self.make_res_layer(
                block=self.block,
                inplanes=self.inplanes,
                planes=planes,
                num_blocks=num_blocks,
                stride=strides[i],
                dilation=dilations[i],
                style=style,
                avg_down=avg_down,
                with_cp=with_cp,
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg,
                dcn=dcn if stage_with_dcn[i] else None,
                plugins=None if plugins is None else self.make_stage_plugins(plugins, i),
                init_cfg=block_init_cfg,
            )
            self.inplanes = planes * self.block.expansion
            name = f'layer{i + 1}'
            self.add_module(name, layer)
            self.res_layers.append(name)
        self._freeze_stages()
        self.feat_dim = self.inplanes

    def _layout(self, depth: int, base_channels: int) -> tuple[type[BaseModule], Sequence[int], Sequence[int]]:
        """The class of the blocks, their number in each stage, and the ``planes`` of each stage."""
        if depth not in self.arch_settings:
            raise UserKeyError(
                f'{type(self).__name__} has no depth {depth!r}, but {", ".join(map(str, self.arch_settings))}'
            )
        block, stage_blocks = self.arch_settings[depth]
        return block, stage_blocks, [base_channels * 2**i for i in range(len(stage_blocks))]

    def _zero_init_cfg(self) -> dict | None:
        last_norm = {BasicBlock: 'norm2', Bottleneck: 'norm3'}.get(self.block)  # no derived class, as published
        return dict(type='Constant', val=0, override=dict(name=last_norm)) if last_norm else None

    def make_stage_plugins(self, plugins: list[dict], stage_idx: int) -> list[dict]:
        """The ``plugins`` of one stage, as the blocks take them."""
        chosen = []
        for plugin in plugins:
            plugin = copy.deepcopy(plugin)
            stages = plugin.pop('stages', None)
            if stages is not None and len(stages) != self.num_stages:
                raise UserValueError(f'stages {stages} of a plugin must name each of the {self.num_stages} stages')
            if stages is None or stages[stage_idx]:
                chosen.append(plugin)
        return chosen

    def make_res_layer(self, **kwargs: Any) -> ResLayer:
        """The next stage; a variant of ResNet adds here what its blocks take."""
        return ResLayer(**kwargs)

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        if self.deep_stem:
            layers = []
            channels = (in_channels, stem_channels // 2, stem_channels // 2, stem_channels)
            for i in range(3):
                layers += [
                    build_conv_layer(
                        self.conv_cfg, channels[i], channels[i + 1], 3, stride=2 if i == 0 else 1, padding=1, bias=False
                    ),
                    build_norm_layer(self.norm_cfg, channels[i + 1])[1],
                    nn.ReLU(inplace=True),
                ]
            self.stem = nn.Sequential(*layers)
        else:
            self.conv1 = build_conv_layer(self.conv_cfg, in_channels, stem_channels, 7, stride=2, padding=3, bias=False)
            self.norm1_name, norm1 = build_norm_layer(self.norm_cfg, stem_channels, postfix=1)
            self.add_module(self.norm1_name, norm1)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.stem] if self.deep_stem else [self.conv1, self.norm1]
        frozen += [getattr(self, name) for name in self.res_layers[: self.frozen_stages]]
        freeze(frozen)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` -> the maps of ``out_indices``."""
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        return self.run_stages(self.maxpool(x), [getattr(self, name) for name in self.res_layers])


@MODELS.register_module()
class ResNetV1d(ResNet):
    """ResNet with a deep stem and average pooling in the shortcuts (ResNet-D of arXiv:1812.01187)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(deep_stem=True, avg_down=True, **kwargs)
