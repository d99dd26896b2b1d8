from __future__ import annotations

from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserTypeError, UserValueError
from mmdet.models.layers.building import conv_module_options, run_checkpointed
from mmdet.models.layers.se_layer import SELayer


class InvertedResidual(BaseModule):
    """Expand, depthwise and project convolutions (MobileNetV2, arXiv:1801.04381), with an optional SE gate.

    Args:
        mid_channels: Channels of the depthwise convolution.
        se_cfg: Arguments of ``SELayer`` between the depthwise and the last convolution.
        with_expand_conv: Without it ``mid_channels`` must be ``in_channels``.
        drop_path_rate: Probability with which a sample skips the block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        se_cfg: dict | None = None,
        with_expand_conv: bool = True,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU'),
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if stride not in (1, 2):
            raise UserValueError(f'stride must be 1 or 2, got {stride}')
        if se_cfg is not None and not isinstance(se_cfg, dict):
            raise UserTypeError(f'se_cfg must be a dict with the arguments of SELayer, got {se_cfg!r}')
        if not with_expand_conv and mid_channels != in_channels:
            raise UserValueError(
                f'without expand conv, mid_channels ({mid_channels}) must be in_channels ({in_channels})'
            )
        shared = conv_module_options(conv_cfg, norm_cfg)
        self.with_res_shortcut = stride == 1 and in_channels == out_channels
        self.with_cp = with_cp
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()
        self.with_se = se_cfg is not None
        self.with_expand_conv = with_expand_conv
        if with_expand_conv:
            self.expand_conv = ConvModule(in_channels, mid_channels, 1, act_cfg=act_cfg, **shared)
        self.depthwise_conv = ConvModule(
            mid_channels,
            mid_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=mid_channels,
            act_cfg=act_cfg,
            **shared,
        )
        if self.with_se:
            self.se = SELayer(**se_cfg)
        self.linear_conv = ConvModule(mid_channels, out_channels, 1, act_cfg=None, **shared)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H / stride, W / stride)``."""
        return run_checkpointed(self._forward, x, self.with_cp)

    def _forward(self, x: Tensor) -> Tensor:
        out = self.expand_conv(x) if self.with_expand_conv else x
        out = self.depthwise_conv(out)
        if self.with_se:
            out = self.se(out)
        out = self.linear_conv(out)
        return x + self.drop_path(out) if self.with_res_shortcut else out
