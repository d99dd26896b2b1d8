"""Switchable atrous convolution of DetectoRS (arXiv:2006.02334)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvAWS2d
from mmengine.model import constant_init
from torch import Tensor, nn

from mmdet.ops import deform_conv2d
from mmdet.registry import MODELS


@MODELS.register_module('SAC')
class SAConv2d(ConvAWS2d):
    """Two convolutions of different dilation, blended position by position (Sec. 4).

    The second has three times the dilation, and the weights of the first plus a learned difference.

    Args:
        use_deform: Both are deformable.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        use_deform: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.use_deform = use_deform
        self.switch = nn.Conv2d(in_channels, 1, 1, stride=stride)
        self.weight_diff = nn.Parameter(torch.zeros_like(self.weight))
        self.pre_context = nn.Conv2d(in_channels, in_channels, 1)
        self.post_context = nn.Conv2d(out_channels, out_channels, 1)
        if use_deform:
            self.offset_s = nn.Conv2d(in_channels, 18, 3, padding=1, stride=stride)
            self.offset_l = nn.Conv2d(in_channels, 18, 3, padding=1, stride=stride)
        self.init_weights()

    def init_weights(self) -> None:
        """Starts as the plain convolution: the switch at 1, everything that is learned beside it at 0."""
        constant_init(self.switch, 0, bias=1)
        nn.init.zeros_(self.weight_diff)
        for name in ('pre_context', 'post_context', 'offset_s', 'offset_l'):
            if hasattr(self, name):
                constant_init(getattr(self, name), 0)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, out, H / stride, W / stride)``."""
        x = x + self.pre_context(F.adaptive_avg_pool2d(x, 1))
        mean = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode='reflect'), 5, stride=1)
        switch = self.switch(mean)
        weight = self._get_weight(self.weight)
        near = self._convolve(x, mean, weight, 1, 'offset_s')
        far = self._convolve(x, mean, weight + self.weight_diff, 3, 'offset_l')
        out = switch * near + (1 - switch) * far
        return out + self.post_context(F.adaptive_avg_pool2d(out, 1))

    def _convolve(self, x: Tensor, mean: Tensor, weight: Tensor, factor: int, offset_name: str) -> Tensor:
        padding = tuple(factor * value for value in self.padding)
        dilation = tuple(factor * value for value in self.dilation)
        if self.use_deform:
            offset = getattr(self, offset_name)(mean)
            return deform_conv2d(x, offset, weight, self.stride, padding, dilation, self.groups, 1)
        return F.conv2d(x, weight, self.bias, self.stride, padding, dilation, self.groups)


SAC = SAConv2d  # the name in configs
