"""Feature Pyramid Networks (arXiv:1612.03144)."""

from __future__ import annotations

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import conv_module_options
from mmdet.models.necks.levels import Pyramid, check_maps
from mmdet.registry import MODELS

EXTRA_CONV_SOURCES = ('on_input', 'on_lateral', 'on_output')


@MODELS.register_module()
class FPN(Pyramid):
    """Feature Pyramid Network.

    Args:
        in_channels: Channels of each input, finest first.
        num_outs: Number of outputs; those beyond the inputs come from ``add_extra_convs``.
        start_level, end_level: First and last input that is used; -1 stands for the last.
        add_extra_convs: Where the first extra level comes from: 'on_input' the last input, 'on_lateral' the last
            lateral, 'on_output' the last output, each by a convolution of stride 2. True means 'on_input'. False
            subsamples the last output instead.
        upsample_cfg: Arguments of ``torch.nn.functional.interpolate``; the size is the finer level's unless
            ``scale_factor`` is given.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        upsample_cfg: dict = dict(mode='nearest'),
        init_cfg: dict | list[dict] | None = dict(type='Xavier', layer='Conv2d', distribution='uniform'),
    ) -> None:
        super().__init__(init_cfg)
        self._describe(in_channels, out_channels, num_outs)
        self.relu_before_extra_convs = relu_before_extra_convs
        self.no_norm_on_lateral = no_norm_on_lateral
        self.fp16_enabled = False
        self.upsample_cfg = dict(upsample_cfg)
        used, num_extra = self._use_levels(start_level, end_level)
        self.add_extra_convs = 'on_input' if add_extra_convs is True else add_extra_convs
        if self.add_extra_convs and self.add_extra_convs not in EXTRA_CONV_SOURCES:
            raise UserValueError(
                f'add_extra_convs must be a boolean or one of {EXTRA_CONV_SOURCES}, got {add_extra_convs!r}'
            )

        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg, inplace=False)
        lateral = {**shared, 'norm_cfg': None} if no_norm_on_lateral else shared
        # In turn, so that the same seed gives the same random weights as in 3.x.
        made = [
            (
                ConvModule(channels, out_channels, 1, **lateral),
                ConvModule(out_channels, out_channels, 3, padding=1, **shared),
            )
            for channels in used
        ]
        self.lateral_convs, self.fpn_convs = (nn.ModuleList(convs) for convs in zip(*made))
        if self.add_extra_convs:
            for i in range(num_extra):
                channels = used[-1] if i == 0 and self.add_extra_convs == 'on_input' else out_channels
                self.fpn_convs.append(ConvModule(channels, out_channels, 3, stride=2, padding=1, **shared))

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map ``num_ins`` feature maps, finest first, to ``num_outs``."""
        laterals = self.top_down(inputs)
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        return tuple(self.append_extra_levels(outs, inputs, laterals))

    def top_down(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """The laterals of the levels in use, each with all coarser ones added."""
        check_maps(self, inputs, self.num_ins)
        used = inputs[self.start_level : self.backbone_end_level]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for i in reversed(range(len(laterals) - 1)):
            laterals[i] = self.add_coarser(laterals[i], laterals[i + 1])
        return laterals

    def add_coarser(self, finer: Tensor, coarser: Tensor) -> Tensor:
        """One lateral with the next coarser one, at its size, added."""
        size = {} if 'scale_factor' in self.upsample_cfg else dict(size=finer.shape[2:])
        return finer + F.interpolate(coarser, **size, **self.upsample_cfg)

    def append_extra_levels(
        self, outs: list[Tensor], inputs: tuple[Tensor, ...], laterals: list[Tensor]
    ) -> list[Tensor]:
        """``outs`` with the levels that no input has: strided convolutions of what ``add_extra_convs`` names, or
        pooling."""
        num_used = len(outs)
        if self.num_outs <= num_used:
            return outs
        if not self.add_extra_convs:
            for _ in range(self.num_outs - num_used):
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
            return outs
        sources = dict(on_input=inputs[self.backbone_end_level - 1], on_lateral=laterals[-1], on_output=outs[-1])
        source = sources[self.add_extra_convs]
        for i, conv in enumerate(list(self.fpn_convs)[num_used:]):
            if i > 0:
                source = F.relu(outs[-1]) if self.relu_before_extra_convs else outs[-1]
            outs.append(conv(source))
        return outs
