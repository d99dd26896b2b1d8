from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.layers.building import conv_module_options
from mmdet.models.necks.levels import check_channels, check_maps
from mmdet.registry import MODELS


@MODELS.register_module()
class ChannelMapper(BaseModule):
    """Every feature map brought to ``out_channels`` by its own convolution.

    Args:
        num_outs: If more than the inputs, the rest come by convolutions of stride 2, the first from the last input.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        kernel_size: int = 3,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = dict(type='ReLU'),
        bias: bool | str = 'auto',
        num_outs: int | None = None,
        init_cfg: dict | list[dict] | None = dict(type='Xavier', layer='Conv2d', distribution='uniform'),
    ) -> None:
        super().__init__(init_cfg)
        check_channels(in_channels)
        num_extra = (num_outs or len(in_channels)) - len(in_channels)
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg, bias=bias)
        self.convs = nn.ModuleList(
            ConvModule(channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, **shared)
            for channels in in_channels
        )
        self.extra_convs = None
        if num_extra > 0:
            sources = [in_channels[-1]] + [out_channels] * (num_extra - 1)
            self.extra_convs = nn.ModuleList(
                ConvModule(channels, out_channels, 3, stride=2, padding=1, **shared) for channels in sources
            )

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One map per input, then the extra ones, each of half the size of the one before."""
        check_maps(self, inputs, len(self.convs))
        outs = [conv(x) for conv, x in zip(self.convs, inputs, strict=True)]
        for i, conv in enumerate(self.extra_convs or ()):
            outs.append(conv(inputs[-1] if i == 0 else outs[-1]))
        return tuple(outs)
