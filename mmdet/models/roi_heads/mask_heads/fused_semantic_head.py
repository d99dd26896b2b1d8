from __future__ import annotations

import warnings

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.registry import MODELS
from mmdet.utils import ConfigType, MultiConfig, OptConfigType


@MODELS.register_module()
class FusedSemanticHead(BaseModule):
    """Semantic segmentation on the sum of all levels, brought to the size of one (HTC, arXiv:1901.07518, Sec. 3.2).

    Args:
        num_ins: Number of levels.
        fusion_level: Level whose size is taken.
        seg_scale_factor: Size of that level relative to the label map.
        ignore_label, loss_weight: Of earlier versions; ``loss_seg`` holds them now.
    """

    def __init__(
        self,
        num_ins: int,
        fusion_level: int,
        seg_scale_factor: float = 1 / 8,
        num_convs: int = 4,
        in_channels: int = 256,
        conv_out_channels: int = 256,
        num_classes: int = 183,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        ignore_label: int | None = None,
        loss_weight: float | None = None,
        loss_seg: ConfigType = dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.2),
        init_cfg: MultiConfig = dict(type='Kaiming', override=dict(name='conv_logits')),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_ins, self.fusion_level, self.seg_scale_factor = num_ins, fusion_level, seg_scale_factor
        self.num_convs, self.in_channels, self.conv_out_channels = num_convs, in_channels, conv_out_channels
        self.num_classes, self.conv_cfg, self.norm_cfg = num_classes, conv_cfg, norm_cfg
        layer = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        self.lateral_convs = nn.ModuleList(
            ConvModule(in_channels, in_channels, 1, inplace=False, **layer) for _ in range(num_ins)
        )
        widths = [in_channels] + [conv_out_channels] * num_convs
        self.convs = nn.ModuleList(ConvModule(a, b, 3, padding=1, **layer) for a, b in zip(widths, widths[1:]))
        self.conv_embedding = ConvModule(conv_out_channels, conv_out_channels, 1, **layer)
        self.conv_logits = nn.Conv2d(conv_out_channels, num_classes, 1)
        loss_seg = dict(loss_seg)
        for key, value in dict(ignore_index=ignore_label, loss_weight=loss_weight).items():
            if value is not None:
                warnings.warn(f'give {key}={value} in loss_seg of FusedSemanticHead', DeprecationWarning, stacklevel=2)
                loss_seg[key] = value
        self.criterion = MODELS.build(loss_seg)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Class logits ``(B, num_classes, h, w)`` and semantic features ``(B, c, h, w)``."""
        size = feats[self.fusion_level].shape[-2:]
        x = sum(
            conv(feat if feat.shape[-2:] == size else F.interpolate(feat, size, mode='bilinear', align_corners=True))
            for conv, feat in zip(self.lateral_convs, feats)
        )
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(x), self.conv_embedding(x)

    def loss(self, mask_preds: Tensor, labels: Tensor) -> Tensor:
        """Loss of logits for label maps ``(B, 1, H, W)``."""
        labels = F.interpolate(labels.float(), scale_factor=self.seg_scale_factor, mode='nearest')
        return self.criterion(mask_preds, labels[:, 0].long())
