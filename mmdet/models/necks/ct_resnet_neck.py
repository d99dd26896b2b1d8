"""The upsampling of CenterNet on ResNets (arXiv:1904.07850; arXiv:1804.06208)."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserTypeError, UserValueError
from mmdet.models.layers.building import resolve_layer
from mmdet.registry import MODELS


@MODELS.register_module()
class CTResNetNeck(BaseModule):
    """A 3x3 convolution and a transposed one of stride 2, as often as there are filters.

    Args:
        num_deconv_filters, num_deconv_kernels: Channels and kernel size of each step.
        use_dcn: Deformable 3x3 convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        num_deconv_filters: tuple[int, ...],
        num_deconv_kernels: tuple[int, ...],
        use_dcn: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(num_deconv_filters) != len(num_deconv_kernels):
            raise UserValueError(
                f'num_deconv_filters {num_deconv_filters} and num_deconv_kernels {num_deconv_kernels} differ in length'
            )
        self.use_dcn = use_dcn
        self.in_channels = in_channels
        conv_cfg = resolve_layer(dict(type='DCNv2')) if use_dcn else None
        norm_cfg = dict(type='BN')
        layers = []
        for channels, kernel_size in zip(num_deconv_filters, num_deconv_kernels, strict=True):
            layers += [
                ConvModule(in_channels, channels, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg),
                ConvModule(
                    channels,
                    channels,
                    kernel_size,
                    stride=2,
                    padding=1,
                    conv_cfg=dict(type='deconv'),
                    norm_cfg=norm_cfg,
                ),
            ]
            in_channels = channels
        self.deconv_layers = nn.Sequential(*layers)

    def init_weights(self) -> None:
        """Transposed convolutions start with a bilinear kernel in their first input of each channel."""
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d):
                module.reset_parameters()
                size = module.kernel_size[0]
                half = (size + 1) // 2
                centre = (2 * half - 1 - half % 2) / (2 * half)
                ramp = 1 - (torch.arange(size) / half - centre).abs()
                with torch.no_grad():
                    module.weight[:, 0] = ramp[:, None] * ramp
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif not self.use_dcn and isinstance(module, nn.Conv2d):
                module.reset_parameters()

    def forward(self, x: tuple[Tensor, ...]) -> tuple[Tensor]:
        """One map, made of the coarsest input; each deconvolution doubles its size."""
        if not isinstance(x, (list, tuple)):
            raise UserTypeError(f'CTResNetNeck takes a list or tuple of feature maps, not {type(x).__name__}')
        return (self.deconv_layers(x[-1]),)
