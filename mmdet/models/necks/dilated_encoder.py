"""The encoder of YOLOF (arXiv:2103.09460)."""

from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, caffe2_xavier_init, constant_init, normal_init
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet.errors import UserValueError
from mmdet.models.layers.building import resolve_layer
from mmdet.registry import MODELS


class Bottleneck(BaseModule):
    """A residual block with a dilated 3x3 convolution."""

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        dilation: int,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = resolve_layer(norm_cfg)
        self.conv1 = ConvModule(in_channels, mid_channels, 1, norm_cfg=norm_cfg)
        self.conv2 = ConvModule(mid_channels, mid_channels, 3, padding=dilation, dilation=dilation, norm_cfg=norm_cfg)
        self.conv3 = ConvModule(mid_channels, in_channels, 1, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of the same shape; the middle convolution is the dilated one."""
        return self.conv3(self.conv2(self.conv1(x))) + x


@MODELS.register_module()
class DilatedEncoder(nn.Module):
    """Projection of the coarsest feature map and residual blocks of growing dilation (Fig. 5).

    Args:
        block_dilations: Dilation of each of the ``num_residual_blocks`` blocks; more are not used.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_mid_channels: int,
        num_residual_blocks: int,
        block_dilations: list[int],
    ) -> None:
        super().__init__()
        if len(block_dilations) < num_residual_blocks:
            raise UserValueError(
                f'block_dilations {block_dilations} must name each of the {num_residual_blocks} blocks'
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.block_mid_channels = block_mid_channels
        self.num_residual_blocks = num_residual_blocks
        self.block_dilations = block_dilations
        self._init_layers()

    def _init_layers(self) -> None:
        self.lateral_conv = nn.Conv2d(self.in_channels, self.out_channels, 1)
        self.lateral_norm = nn.BatchNorm2d(self.out_channels)
        self.fpn_conv = nn.Conv2d(self.out_channels, self.out_channels, 3, padding=1)
        self.fpn_norm = nn.BatchNorm2d(self.out_channels)
        self.dilated_encoder_blocks = nn.Sequential(
            *(
                Bottleneck(self.out_channels, self.block_mid_channels, dilation)
                for dilation in self.block_dilations[: self.num_residual_blocks]
            )
        )

    def init_weights(self) -> None:
        """Xavier's rule of Caffe2 for the two projections, small normal weights in the blocks."""
        caffe2_xavier_init(self.lateral_conv)
        caffe2_xavier_init(self.fpn_conv)
        for module in self.dilated_encoder_blocks.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, mean=0, std=0.01)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                constant_init(module, 1)

    def forward(self, feature: tuple[Tensor, ...]) -> tuple[Tensor]:
        """One map, of the size of the coarsest input."""
        x = self.lateral_norm(self.lateral_conv(feature[-1]))
        return (self.dilated_encoder_blocks(self.fpn_norm(self.fpn_conv(x))),)
