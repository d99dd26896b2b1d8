from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.layers.building import resolve_layer


class ConvUpsample(BaseModule):
    """3x3 convolutions, the first ``num_upsample`` of them followed by bilinear upsampling by 2 (Panoptic FPN)."""

    def __init__(
        self,
        in_channels: int,
        inner_channels: int,
        num_layers: int = 1,
        num_upsample: int | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.num_upsample = num_layers if num_upsample is None else num_upsample
        if self.num_upsample > num_layers:
            raise UserValueError(f'num_upsample ({num_upsample}) must not exceed num_layers ({num_layers})')
        channels = [in_channels, *[inner_channels] * num_layers]
        self.conv = ModuleList(
            ConvModule(
                channels[i],
                channels[i + 1],
                3,
                padding=1,
                conv_cfg=resolve_layer(conv_cfg),
                norm_cfg=resolve_layer(norm_cfg),
                **kwargs,
            )
            for i in range(num_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, inner, 2**n * H, 2**n * W)`` after n upsamplings."""
        for i, conv in enumerate(self.conv):
            x = conv(x)
            if i < self.num_upsample:
                x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
        return x
