"""Dynamic Head (arXiv:2106.08322)."""

from __future__ import annotations

from mmcv.cnn import build_activation_layer
from mmengine.model import BaseModule, constant_init, normal_init
from torch import Tensor, nn

from mmdet.models.layers.building import build_norm_layer
from mmdet.models.layers.dynamic_head import dynamic_levels
from mmdet.models.layers.se_layer import DyReLU
from mmdet.ops import ModulatedDeformConv2d
from mmdet.registry import MODELS


class DyDCNv2(nn.Module):
    """Deformable convolution whose offsets come from outside, and a norm layer."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        norm_cfg: dict | None = dict(type='GN', num_groups=16, requires_grad=True),
    ) -> None:
        super().__init__()
        self.with_norm = norm_cfg is not None
        self.conv = ModulatedDeformConv2d(
            in_channels, out_channels, 3, stride=stride, padding=1, bias=not self.with_norm
        )
        if self.with_norm:
            self.norm = build_norm_layer(norm_cfg, out_channels)[1]

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """``offset`` and ``mask`` as :class:`mmdet.ops.ModulatedDeformConv2d` takes them."""
        x = self.conv(x.contiguous(), offset, mask)
        return self.norm(x) if self.with_norm else x


class DyHeadBlock(nn.Module):
    """Attention over scale, space and task (Eqs. 3 to 5).

    Args:
        zero_init_offset: The deformable convolutions start with offsets of zero.
        act_cfg: Activation of the scale attention.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        zero_init_offset: bool = True,
        act_cfg: dict = dict(type='HSigmoid', bias=3.0, divisor=6.0),
    ) -> None:
        super().__init__()
        self.zero_init_offset = zero_init_offset
        self.offset_dim = 2 * 3 * 3
        self.spatial_conv_high = DyDCNv2(in_channels, out_channels)
        self.spatial_conv_mid = DyDCNv2(in_channels, out_channels)
        self.spatial_conv_low = DyDCNv2(in_channels, out_channels, stride=2)
        self.spatial_conv_offset = nn.Conv2d(in_channels, 3 * 3 * 3, 3, padding=1)
        self.scale_attn_module = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(out_channels, 1, 1),
            nn.ReLU(inplace=True),
            build_activation_layer(act_cfg),
        )
        self.task_attn_module = DyReLU(out_channels)
        self._init_weights()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, 0, 0.01)
        if self.zero_init_offset:
            constant_init(self.spatial_conv_offset, 0)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """Maps of all levels, finest first, each of its own size again."""
        parts = self.spatial_conv_offset, self.spatial_conv_high, self.spatial_conv_mid, self.spatial_conv_low
        return [self.task_attn_module(level) for level in dynamic_levels(x, *parts, self.scale_attn_module)]


@MODELS.register_module()
class DyHead(BaseModule):
    """``num_blocks`` dynamic head blocks on all levels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int = 6,
        zero_init_offset: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_blocks = num_blocks
        self.zero_init_offset = zero_init_offset
        self.dyhead_blocks = nn.Sequential(
            *(
                DyHeadBlock(in_channels if i == 0 else out_channels, out_channels, zero_init_offset)
                for i in range(num_blocks)
            )
        )

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of all levels, finest first, each of its own size again."""
        return tuple(self.dyhead_blocks(list(inputs)))
