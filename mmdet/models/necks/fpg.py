"""Feature Pyramid Grids (arXiv:2004.03580)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.layers.building import resolve_layer
from mmdet.models.necks.levels import Pyramid, check_maps
from mmdet.registry import MODELS


class UpInterpolationConv(BaseModule):
    """Interpolation by ``scale_factor``, then a convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale_factor: int = 2,
        mode: str = 'nearest',
        align_corners: bool | None = None,
        kernel_size: int = 3,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.mode, self.align_corners = mode, align_corners
        self.scale_factor = scale_factor
        self.conv = ConvModule(in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, scale * H, scale * W)``."""
        size = dict(scale_factor=self.scale_factor, mode=self.mode, align_corners=self.align_corners)
        return self.conv(F.interpolate(x, **size))


class LastConv(BaseModule):
    """A convolution of the last of ``num_inputs`` maps."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_inputs: int,
        kernel_size: int = 3,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.num_inputs = num_inputs
        self.conv_out = ConvModule(in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, **kwargs)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """The last pathway alone; ``inputs`` are the maps of one level in all pathways."""
        return self.conv_out(inputs[-1])


@MODELS.register_module()
class FPG(Pyramid):
    """A grid of ``stack_times`` parallel pathways over the levels.

    A node sums what comes from the level before it in its own pathway ('same'), and from the pathway before it at its
    level ('lateral'), the coarser ('down') and the finer level ('up'), and from the first pathway ('skip').

    Args:
        paths: Direction of each pathway, 'bu' from fine to coarse or 'td' from coarse to fine.
        inter_channels: Channels of the levels inside the grid.
        same_down_trans, ..., output_trans: Layer of each kind of connection, None for no such connection.
        skip_inds: For each level the pathways that have no node there.
    """

    transition_types = {'conv': ConvModule, 'interpolation_conv': UpInterpolationConv, 'last_conv': LastConv}

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        stack_times: int,
        paths: list[str],
        inter_channels: int | list[int] | None = None,
        same_down_trans: dict | None = None,
        same_up_trans: dict | None = dict(type='conv', kernel_size=3, stride=2, padding=1),
        across_lateral_trans: dict | None = dict(type='conv', kernel_size=1),
        across_down_trans: dict | None = dict(type='conv', kernel_size=3),
        across_up_trans: dict | None = None,
        across_skip_trans: dict | None = dict(type='identity'),
        output_trans: dict = dict(type='last_conv', kernel_size=3),
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool = False,
        norm_cfg: dict | None = None,
        skip_inds: list[tuple[int, ...]] | None = None,
        init_cfg: dict | list[dict] | None = [
            dict(type='Caffe2Xavier', layer='Conv2d'),
            dict(type='Constant', layer=['_BatchNorm', '_InstanceNorm', 'GroupNorm', 'LayerNorm'], val=1.0),
        ],
    ) -> None:
        super().__init__(init_cfg)
        if len(paths) != stack_times or not set(paths) <= {'bu', 'td'}:
            raise UserValueError(f"paths must give 'bu' or 'td' for each of the {stack_times} pathways, got {paths}")
        if inter_channels is None:
            inter_channels = out_channels
        widths = [inter_channels] * num_outs if isinstance(inter_channels, int) else list(inter_channels)
        self._describe(in_channels, out_channels, num_outs)
        self.inter_channels = widths
        self.add_extra_convs = add_extra_convs
        self.norm_cfg = norm_cfg
        self.stack_times = stack_times
        self.paths = paths
        self.skip_inds = skip_inds or [()] * num_outs
        used, num_extra = self._use_levels(start_level, end_level)

        self.lateral_convs = nn.ModuleList(
            nn.Conv2d(channels, width, 1) for channels, width in zip(used, widths, strict=False)
        )
        self.extra_downsamples = nn.ModuleList()
        for i in range(len(used), len(used) + num_extra):
            self.extra_downsamples.append(
                nn.Conv2d(widths[i - 1], widths[i], 3, stride=2, padding=1)
                if add_extra_convs
                else nn.MaxPool2d(1, stride=2)
            )

        self.fpn_transitions = nn.ModuleList()
        for stage in range(stack_times):
            nodes = nn.ModuleList()
            for level in range(num_outs):
                node = nn.ModuleDict()
                sources = dict(
                    same_up=(same_up_trans, level - 1),
                    same_down=(same_down_trans, level + 1),
                    across_lateral=(across_lateral_trans, level),
                    across_down=(across_down_trans, level + 1),
                    across_up=(across_up_trans, level - 1),
                    across_skip=(across_skip_trans, level),
                )
                for name, (cfg, source) in sources.items():
                    if stage not in self.skip_inds[level] and cfg is not None and 0 <= source < num_outs:
                        node[name] = self.build_trans(cfg, widths[source], widths[level])
                nodes.append(node)
            self.fpn_transitions.append(nodes)
        self.output_transition = nn.ModuleList(
            self.build_trans(output_trans, width, out_channels, num_inputs=stack_times + 1) for width in widths
        )
        self.relu = nn.ReLU(inplace=True)

    def build_trans(self, cfg: dict, in_channels: int, out_channels: int, **extra_args: Any) -> nn.Module:
        """The layer of one connection."""
        cfg = dict(cfg)
        kind = cfg.pop('type')
        if kind == 'identity':
            return nn.Identity()
        if kind not in self.transition_types:
            raise UserKeyError(
                f'FPG knows the transitions {", ".join(self.transition_types)} and identity, not {kind!r}'
            )
        if 'norm_cfg' in cfg:
            cfg['norm_cfg'] = resolve_layer(cfg['norm_cfg'])
        return self.transition_types[kind](in_channels, out_channels, **cfg, **extra_args)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of the backbone, finest first -> maps ``(B, out_channels, H, W)`` of the levels, finest first."""
        check_maps(self, inputs, self.num_ins)
        used = inputs[self.start_level : self.backbone_end_level]
        feats = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for downsample in self.extra_downsamples:
            feats.append(downsample(feats[-1]))
        pathways = [feats]
        for stage, direction in enumerate(self.paths):
            before, now = pathways[-1], list(pathways[-1])
            step = 1 if direction == 'bu' else -1
            for level in range(self.num_outs)[::step]:
                if stage not in self.skip_inds[level]:
                    now[level] = self._node(stage, level, level - step, before, now, feats)
            pathways.append(now)
        return tuple(trans([levels[i] for levels in pathways]) for i, trans in enumerate(self.output_transition))

    def _node(
        self, stage: int, level: int, previous: int, before: list[Tensor], now: list[Tensor], first: list[Tensor]
    ) -> Tensor:
        trans = self.fpn_transitions[stage][level]
        height, width = before[level].shape[-2:]
        same = 'same_up' if previous < level else 'same_down'
        sources = (
            (same, now, previous),
            ('across_lateral', before, level),
            ('across_up', before, level - 1),
            ('across_down', before, level + 1),
            ('across_skip', first, level),
        )
        # a size that was rounded up is cut after upsampling
        return sum(trans[name](maps[i])[..., :height, :width] for name, maps, i in sources if name in trans)
