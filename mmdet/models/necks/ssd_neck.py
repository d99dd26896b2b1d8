"""The extra feature layers of SSD (arXiv:1512.02325, Sec. 2.1)."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import conv_module_class, conv_module_options
from mmdet.registry import MODELS


class L2Norm(nn.Module):
    """Each position scaled to unit length over the channels, times a learned weight (ParseNet, arXiv:1506.04579)."""

    def __init__(self, n_dims: int, scale: float = 20.0, eps: float = 1e-10) -> None:
        super().__init__()
        self.n_dims = n_dims
        self.weight = nn.Parameter(torch.full((n_dims,), float(scale)))
        self.eps = eps
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Each position of ``(B, C, H, W)`` divided by the length of its vector of channels, times a weight per
        channel."""
        wide = x.float()  # a sum of squares overflows in half precision
        norm = wide.pow(2).sum(1, keepdim=True).sqrt() + self.eps
        return (self.weight.float()[:, None, None] * (wide / norm)).type_as(x)


@MODELS.register_module()
class SSDNeck(BaseModule):
    """Coarser levels, each by a 1x1 and a strided convolution from the one before.

    Args:
        in_channels: Channels of the inputs, which are passed on as the first outputs.
        out_channels: Channels of all outputs; they begin with ``in_channels``.
        level_strides, level_paddings: Of the second convolution of each extra level.
        l2_norm_scale: Initial scale of the normalisation of the first input; none if None.
        last_kernel_size: Kernel of the last convolution (4 in SSD512).
        use_depthwise: Depthwise separable second convolutions (SSDLite).
    """

    def __init__(
        self,
        in_channels: tuple[int, ...],
        out_channels: tuple[int, ...],
        level_strides: tuple[int, ...],
        level_paddings: tuple[int, ...],
        l2_norm_scale: float | None = 20.0,
        last_kernel_size: int = 3,
        use_depthwise: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict = dict(type='ReLU'),
        init_cfg: dict | list[dict] | None = [
            dict(type='Xavier', distribution='uniform', layer='Conv2d'),
            dict(type='Constant', val=1, layer='BatchNorm2d'),
        ],
    ) -> None:
        super().__init__(init_cfg)
        num_extra = len(out_channels) - len(in_channels)
        if num_extra <= 0 or tuple(out_channels[:-num_extra]) != tuple(in_channels):
            raise UserValueError(f'out_channels {out_channels} must begin with in_channels {in_channels} and go on')
        if not len(level_strides) == len(level_paddings) == num_extra:
            raise UserValueError(
                f'level_strides {level_strides} and level_paddings {level_paddings} must name each of the '
                f'{num_extra} extra levels'
            )
        if l2_norm_scale:
            self.l2_norm = L2Norm(in_channels[0], l2_norm_scale)
            given = init_cfg if isinstance(init_cfg, list) else [init_cfg] if init_cfg else []
            self.init_cfg = [*given, dict(type='Constant', val=l2_norm_scale, override=dict(name='l2_norm'))]

        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        second = conv_module_class(use_depthwise)
        self.extra_layers = nn.ModuleList()
        channels = in_channels[-1]
        for i, out in enumerate(out_channels[len(in_channels) :]):
            kernel_size = last_kernel_size if i == num_extra - 1 else 3
            self.extra_layers.append(
                nn.Sequential(
                    ConvModule(channels, out // 2, 1, **shared),
                    second(out // 2, out, kernel_size, stride=level_strides[i], padding=level_paddings[i], **shared),
                )
            )
            channels = out

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The inputs, the first of them normalised, and the extra levels behind them."""
        outs = list(inputs)
        x = outs[-1]
        if hasattr(self, 'l2_norm'):
            outs[0] = self.l2_norm(outs[0])
        for layer in self.extra_layers:
            x = layer(x)
            outs.append(x)
        return tuple(outs)
