"""The hybrid encoder of D-FINE (arXiv:2410.13842, Appendix A)."""

from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import nn

from mmdet.models.layers.rep_layer import RepNCSPELAN
from mmdet.registry import MODELS

from .hybrid_encoder import HybridEncoder


@MODELS.register_module()
class DFINEHybridEncoder(HybridEncoder):
    """RT-DETR's, with fusion blocks of GELAN and with lateral and downsampling convolutions that have no activation.

    ``expand_ratio`` is the width of the stages of a fusion block in parts of half of C.
    """

    y_first = True

    def _lateral(self, channels: int) -> nn.Module:
        return ConvModule(channels, channels, 1, **self.linear_cfg)

    def _downsample(self, channels: int) -> nn.Module:
        halve = ConvModule(channels, channels, 3, stride=2, padding=1, groups=channels, **self.linear_cfg)
        return nn.Sequential(ConvModule(channels, channels, 1, **self.linear_cfg), halve)

    def _fusion(self, channels: int) -> nn.Module:
        stage = round(self.expand_ratio * channels // 2)
        return RepNCSPELAN(channels * 2, channels, channels * 2, stage, self.num_blocks, **self.conv_cfg)
