"""The encoders of DEIMv2 (arXiv:2509.20787, Sec. 3). Letters: B images, C channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.rep_layer import RepELAN
from mmdet.registry import MODELS

from .dfine_hybrid_encoder import DFINEHybridEncoder
from .levels import check_maps


@MODELS.register_module()
class DEIMv2HybridEncoder(DFINEHybridEncoder):
    """D-FINE's, whose maps are added to each other, not laid side by side, before a smaller fusion block.

    Args:
        trailing_conv: As in :class:`RepELAN`.
    """

    def __init__(self, *args: Any, trailing_conv: bool = False, **kwargs: Any) -> None:
        self.trailing_conv = trailing_conv
        super().__init__(*args, **kwargs)

    def _merge(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other

    def _fusion(self, channels: int) -> nn.Module:
        stage = round(self.expand_ratio * channels // 2)
        return RepELAN(channels, stage, self.num_blocks, self.trailing_conv, **self.conv_cfg)


@MODELS.register_module()
class LiteEncoder(BaseModule):
    """Two maps of one, the coarser with what the whole picture shows; each then learns from the other.

    Args:
        in_channels: Of the only input.
        out_channels: C of both outputs.
        num_blocks, expand_ratio, trailing_conv: As in :class:`DEIMv2HybridEncoder`.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (512,),
        out_channels: int = 112,
        num_blocks: int = 3,
        expand_ratio: float = 1.0,
        trailing_conv: bool = True,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='SiLU', inplace=True),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(in_channels) != 1:
            raise UserValueError(f'LiteEncoder takes one map, got in_channels={list(in_channels)}')
        shared: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        stage = round(expand_ratio * out_channels // 2)
        self.input_proj = nn.ModuleList([ConvModule(in_channels[0], out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)])
        self.down_conv1, self.down_conv2, self.bi_fusion_conv = (
            ConvModule(out_channels, out_channels, 1, **shared) for _ in range(3)
        )
        self.fpn_block, self.pan_block = (
            RepELAN(out_channels, stage, num_blocks, trailing_conv, **shared) for _ in range(2)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """``[(B, in, H, W)]`` -> ``(B, C, H, W)`` and ``(B, C, H / 2, W / 2)``."""
        check_maps(self, inputs, 1)
        fine = self.input_proj[0](inputs[0])
        coarse = self.down_conv1(F.avg_pool2d(fine, 3, 2, 1))
        coarse = self.bi_fusion_conv(coarse + F.adaptive_avg_pool2d(coarse, 1))
        fine = self.fpn_block(fine + F.interpolate(coarse, fine.shape[-2:], mode='nearest'))
        return fine, self.pan_block(coarse + self.down_conv2(F.avg_pool2d(fine, 3, 2, 1)))
