"""The branches of SCNet around its boxes (arXiv:2012.10150, Sec. 3.2 and 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers import ResLayer, SimplifiedBasicBlock
from mmdet.registry import MODELS
from mmdet.utils import MultiConfig, OptConfigType

from .fcn_mask_head import FCNMaskHead
from .fused_semantic_head import FusedSemanticHead


def residual(
    in_channels: int, channels: int, num_convs: int, conv_cfg: OptConfigType, norm_cfg: OptConfigType
) -> ResLayer:
    """As many convolutions as ``num_convs``, two in each residual block."""
    block = SimplifiedBasicBlock
    return ResLayer(block, in_channels, channels, num_convs // 2, conv_cfg=conv_cfg, norm_cfg=norm_cfg)


@MODELS.register_module()
class SCNetMaskHead(FCNMaskHead):
    """A deep mask head of residual blocks.

    Args:
        conv_to_res: Whether each two convolutions are a residual block.
    """

    def __init__(self, conv_to_res: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.conv_to_res = conv_to_res
        if conv_to_res:
            if self.conv_kernel_size != 3:
                raise UserValueError(f'residual blocks have conv_kernel_size 3, not {self.conv_kernel_size}')
            channels = self.in_channels, self.conv_out_channels
            self.convs = residual(*channels, self.num_convs, self.conv_cfg, self.norm_cfg)
            self.num_convs //= 2


@MODELS.register_module()
class SCNetSemanticHead(FusedSemanticHead):
    """Semantic segmentation with residual blocks.

    Args:
        conv_to_res: Whether each two convolutions are a residual block.
    """

    def __init__(self, conv_to_res: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.conv_to_res = conv_to_res
        if conv_to_res:
            channels = self.in_channels, self.conv_out_channels
            self.convs = residual(*channels, self.num_convs, self.conv_cfg, self.norm_cfg)
            self.num_convs //= 2


@MODELS.register_module()
class GlobalContextHead(BaseModule):
    """Which classes an image has, told from its coarsest map; the features help every region.

    Args:
        conv_to_res: Whether each two convolutions are a residual block.
    """

    def __init__(
        self,
        num_convs: int = 4,
        in_channels: int = 256,
        conv_out_channels: int = 256,
        num_classes: int = 80,
        loss_weight: float = 1.0,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        conv_to_res: bool = False,
        init_cfg: MultiConfig = dict(type='Normal', std=0.01, override=dict(name='fc')),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_convs, self.in_channels, self.conv_out_channels = num_convs, in_channels, conv_out_channels
        self.num_classes, self.loss_weight, self.conv_to_res = num_classes, loss_weight, conv_to_res
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        if conv_to_res:
            self.convs: nn.Module = residual(in_channels, conv_out_channels, num_convs, conv_cfg, norm_cfg)
            self.num_convs //= 2
        else:
            widths = [in_channels] + [conv_out_channels] * num_convs
            layer = dict(padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
            self.convs = nn.Sequential(*(ConvModule(a, b, 3, **layer) for a, b in zip(widths, widths[1:])))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(conv_out_channels, num_classes)
        self.criterion = nn.BCEWithLogitsLoss()

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits ``(B, C)`` and features ``(B, c, 1, 1)``."""
        x = self.pool(self.convs(feats[-1]))
        return self.fc(x.flatten(1)), x

    def loss(self, pred: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """Loss of logits for the labels of the objects of each image."""
        targets = torch.stack([pred.new_zeros(self.num_classes).index_fill(0, label, 1) for label in labels])
        return self.loss_weight * self.criterion(pred, targets)


@MODELS.register_module()
class FeatureRelayHead(BaseModule):
    """Features of the box branch as a map, to be added to those of the mask branch."""

    def __init__(
        self,
        in_channels: int = 1024,
        out_conv_channels: int = 256,
        roi_feat_size: int = 7,
        scale_factor: int = 2,
        init_cfg: MultiConfig = dict(type='Kaiming', layer='Linear'),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels, self.out_conv_channels = in_channels, out_conv_channels
        self.roi_feat_size, self.scale_factor = roi_feat_size, scale_factor
        self.fc = nn.Linear(in_channels, out_conv_channels * roi_feat_size**2)
        self.upsample = nn.Upsample(scale_factor=scale_factor, mode='bilinear', align_corners=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(K, in_channels)`` -> ``(K, c, h, w)``, ``scale_factor`` times ``roi_feat_size`` wide."""
        size = self.roi_feat_size
        return self.upsample(self.fc(x).view(x.shape[0], self.out_conv_channels, size, size))
