"""The simple feature pyramid of ViTDet (arXiv:2203.16527, Sec. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import build_norm_layer, conv_module_options
from mmdet.registry import MODELS

from .levels import Pyramid


@MODELS.register_module()
class SimpleFPN(Pyramid):
    """Maps of 4, 2, 1 and a half times the size of the only map of a plain ViT; none of them sees another.

    Args:
        backbone_channel: C, of the map.
        in_channels: Of the four maps that are made of it: C / 4, C / 2, C, C.
        num_outs: Number of outputs; those beyond four subsample the last.
        norm_cfg: Between the enlarging convolutions, where None stands for a layer norm, and after the others.
    """

    def __init__(
        self,
        backbone_channel: int,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self._describe(in_channels, out_channels, num_outs)
        width = backbone_channel
        made = [width // 4, width // 2, width, width]
        if list(in_channels) != made:
            raise UserValueError(
                f'SimpleFPN makes maps of {made} channels of one of backbone_channel={width}, in_channels says '
                f'{list(in_channels)}'
            )
        if num_outs < len(made):
            raise UserValueError(f'num_outs of SimpleFPN must be at least {len(made)}, got {num_outs}')
        self.backbone_channel = width
        self.fpn1 = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, stride=2),
            build_norm_layer(norm_cfg or dict(type='LN2d', eps=1e-6), width // 2)[1],
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
        )
        self.fpn2 = nn.Sequential(nn.ConvTranspose2d(width, width // 2, 2, stride=2))
        self.fpn3 = nn.Sequential(nn.Identity())
        self.fpn4 = nn.Sequential(nn.MaxPool2d(2, 2))
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg, inplace=False)
        self.lateral_convs = nn.ModuleList([ConvModule(channels, out_channels, 1, **shared) for channels in made])
        self.fpn_convs = nn.ModuleList([ConvModule(out_channels, out_channels, 3, padding=1, **shared) for _ in made])

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One map ``(B, C, H, W)``, alone or in a sequence, -> ``num_outs`` maps, the first ``(B, out, 4 H, 4 W)``."""
        maps = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        if len(maps) != 1 or maps[0].shape[1] != self.backbone_channel:
            raise UserValueError(
                f'SimpleFPN was made for one map of {self.backbone_channel} channels, the backbone gives maps of '
                f'{[x.shape[1] for x in maps]} channels'
            )
        scales = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        outs = [out(side(scale(maps[0]))) for scale, side, out in zip(scales, self.lateral_convs, self.fpn_convs)]
        for _ in range(self.num_outs - len(outs)):
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
