"""ResNet-vd of PaddleDetection, the backbone of RT-DETR (arXiv:2304.08069)."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmdet.models.layers.building import build_conv_layer, build_norm_layer
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS

from .resnet import ResNetV1d


@MODELS.register_module()
class PResNet(ResNetV1d):
    """ResNet-D whose first stage projects its shortcut also where the number of channels stays (depth 18 and 34)."""

    def make_res_layer(self, **kwargs: Any) -> ResLayer:
        layer = super().make_res_layer(**kwargs)
        if layer[0].downsample is None:
            channels = kwargs['planes'] * layer.block.expansion
            conv = build_conv_layer(kwargs['conv_cfg'], kwargs['inplanes'], channels, kernel_size=1, bias=False)
            norm = build_norm_layer(kwargs['norm_cfg'], channels)[1]
            layer[0].downsample = nn.Sequential(nn.Identity(), conv, norm)  # no pooling, where the others have it
        return layer
