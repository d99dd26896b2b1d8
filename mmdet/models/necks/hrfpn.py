"""The pyramid of HRNetV2p (arXiv:1904.04514)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.models.layers.building import resolve_layer, run_checkpointed
from mmdet.models.necks.levels import Pyramid, check_maps
from mmdet.registry import MODELS


@MODELS.register_module()
class HRFPN(Pyramid):
    """All branches joined at the finest size, reduced, and pooled to a pyramid.

    Args:
        pooling_type: 'MAX', else average pooling.
        stride: Stride of the convolutions of each level.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int = 5,
        pooling_type: str = 'AVG',
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        with_cp: bool = False,
        stride: int = 1,
        init_cfg: dict | list[dict] | None = dict(type='Caffe2Xavier', layer='Conv2d'),
    ) -> None:
        super().__init__(init_cfg)
        self._describe(in_channels, out_channels, num_outs)
        self.with_cp = with_cp
        self.conv_cfg = resolve_layer(conv_cfg)
        self.norm_cfg = norm_cfg
        self.reduction_conv = ConvModule(sum(in_channels), out_channels, 1, conv_cfg=self.conv_cfg, act_cfg=None)
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, stride=stride, conv_cfg=self.conv_cfg, act_cfg=None)
            for _ in range(num_outs)
        )
        self.pooling = F.max_pool2d if pooling_type == 'MAX' else F.avg_pool2d

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of the backbone, finest first -> maps ``(B, out_channels, H, W)`` of the levels, finest first."""
        check_maps(self, inputs, self.num_ins)
        joined = torch.cat(
            [inputs[0]] + [F.interpolate(x, scale_factor=2**i, mode='bilinear') for i, x in enumerate(inputs) if i > 0],
            dim=1,
        )
        reduced = run_checkpointed(self.reduction_conv, joined, self.with_cp)
        levels = [reduced] + [self.pooling(reduced, 2**i, 2**i) for i in range(1, self.num_outs)]
        return tuple(run_checkpointed(conv, x, self.with_cp) for conv, x in zip(self.fpn_convs, levels, strict=True))
