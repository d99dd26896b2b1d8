"""Path Aggregation Network (arXiv:1803.01534)."""

from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.models.layers.building import conv_module_options
from mmdet.models.necks.fpn import FPN
from mmdet.registry import MODELS


@MODELS.register_module()
class PAFPN(FPN):
    """FPN followed by a bottom-up path (Sec. 3.1); the arguments are those of :class:`FPN`."""

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
        init_cfg: dict | list[dict] | None = dict(type='Xavier', layer='Conv2d', distribution='uniform'),
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            num_outs,
            start_level,
            end_level,
            add_extra_convs,
            relu_before_extra_convs,
            no_norm_on_lateral,
            conv_cfg,
            norm_cfg,
            act_cfg,
            init_cfg=init_cfg,
        )
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg, inplace=False, padding=1)
        steps = range(self.start_level + 1, self.backbone_end_level)
        self.downsample_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, stride=2, **shared) for _ in steps
        )
        self.pafpn_convs = nn.ModuleList(ConvModule(out_channels, out_channels, 3, **shared) for _ in steps)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map ``num_ins`` feature maps, finest first, to ``num_outs``."""
        laterals = self.top_down(inputs)
        levels = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        for i, downsample in enumerate(self.downsample_convs):
            levels[i + 1] = levels[i + 1] + downsample(levels[i])
        outs = levels[:1] + [conv(x) for conv, x in zip(self.pafpn_convs, levels[1:], strict=True)]
        return tuple(self.append_extra_levels(outs, inputs, laterals))
