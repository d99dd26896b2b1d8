"""Recursive Feature Pyramid of DetectoRS (arXiv:2006.02334)."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule, constant_init, xavier_init
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.necks.fpn import FPN
from mmdet.registry import MODELS


class ASPP(BaseModule):
    """Atrous spatial pyramid pooling (arXiv:1706.05587); the last branch sees the mean of the map.

    Args:
        out_channels: Channels of each branch.
        dilations: Dilation of each branch; 1 stands for a 1x1 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilations: tuple[int, ...] = (1, 3, 6, 1),
        init_cfg: dict | list[dict] | None = dict(type='Kaiming', layer='Conv2d'),
    ) -> None:
        super().__init__(init_cfg)
        if dilations[-1] != 1:
            raise UserValueError(f'the last of the dilations must be 1, got {dilations}')
        self.aspp = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, 1)
            if dilation == 1
            else nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
            for dilation in dilations
        )
        self.gap = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the four branches, concatenated along the channels."""
        outs = [conv(x).relu_() for conv in list(self.aspp)[:-1]]
        outs.append(self.aspp[-1](self.gap(x)).relu_().expand_as(outs[-1]))
        return torch.cat(outs, dim=1)


@MODELS.register_module()
class RFP(FPN):
    """FPN whose outputs are fed back into further backbones (Sec. 3).

    The first input is the image (``output_img=True`` of the backbone).

    Args:
        rfp_steps: How often the pyramid is unrolled; ``rfp_steps - 1`` backbones are added.
        rfp_backbone: Config of these backbones.
        aspp_out_channels, aspp_dilations: Of the branches through which the features go back.
    """

    def __init__(
        self,
        rfp_steps: int,
        rfp_backbone: dict,
        aspp_out_channels: int,
        aspp_dilations: tuple[int, ...] = (1, 3, 6, 1),
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        if init_cfg is not None:
            raise UserValueError(f'RFP sets its own initial weights, init_cfg={init_cfg!r} cannot be given')
        super().__init__(init_cfg=None, **kwargs)
        self.rfp_steps = rfp_steps
        self.rfp_modules = nn.ModuleList(MODELS.build(rfp_backbone) for _ in range(1, rfp_steps))
        self.rfp_aspp = ASPP(self.out_channels, aspp_out_channels, aspp_dilations)
        self.rfp_weight = nn.Conv2d(self.out_channels, 1, 1)

    def init_weights(self) -> None:
        # module by module: a walk over all would overwrite what the backbones load
        for convs in (self.lateral_convs, self.fpn_convs):
            for module in convs.modules():
                if isinstance(module, nn.Conv2d):
                    xavier_init(module, distribution='uniform')
        for backbone in self.rfp_modules:
            backbone.init_weights()
        self.rfp_aspp.init_weights()
        constant_init(self.rfp_weight, 0)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        image, *feats = inputs
        outs = super().forward(tuple(feats))
        for backbone in self.rfp_modules:
            back = [outs[0]] + [self.rfp_aspp(x) for x in outs[1:]]
            again = super().forward(backbone.rfp_forward(image, back))
            gates = [self.rfp_weight(x).sigmoid() for x in again]
            outs = tuple(g * new + (1 - g) * old for g, new, old in zip(gates, again, outs, strict=True))
        return outs
