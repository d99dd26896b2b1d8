"""The necks of YOLOX (arXiv:2107.08430) and RTMDet (arXiv:2212.07784): top-down and bottom-up by concatenation."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.layers.building import KAIMING_UNIFORM, conv_module_class, conv_module_options
from mmdet.models.layers.csp_layer import CSPLayer
from mmdet.models.necks.levels import check_maps
from mmdet.registry import MODELS


@MODELS.register_module()
class YOLOXPAFPN(BaseModule):
    """Path aggregation with CSP layers.

    Args:
        num_csp_blocks: Blocks of each CSP layer.
        use_depthwise: Depthwise separable 3x3 convolutions.
        upsample_cfg: Arguments of ``nn.Upsample``.
    """

    csp_kwargs: dict[str, Any] = {}
    out_kernel_size = 1

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_csp_blocks: int = 3,
        use_depthwise: bool = False,
        upsample_cfg: dict = dict(scale_factor=2, mode='nearest'),
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: dict = dict(type='Swish'),
        init_cfg: dict | list[dict] | None = KAIMING_UNIFORM,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.out_channels = out_channels
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        conv = conv_module_class(use_depthwise)

        def csp(inputs: int, outputs: int) -> CSPLayer:
            return CSPLayer(
                inputs,
                outputs,
                num_blocks=num_csp_blocks,
                add_identity=False,
                use_depthwise=use_depthwise,
                **self.csp_kwargs,
                **shared,
            )

        steps = list(zip(in_channels, in_channels[1:], strict=False))  # (finer, coarser)
        self.upsample = nn.Upsample(**upsample_cfg)
        self.reduce_layers = nn.ModuleList(ConvModule(coarse, fine, 1, **shared) for fine, coarse in reversed(steps))
        self.top_down_blocks = nn.ModuleList(csp(fine * 2, fine) for fine, _ in reversed(steps))
        self.downsamples = nn.ModuleList(conv(fine, fine, 3, stride=2, padding=1, **shared) for fine, _ in steps)
        self.bottom_up_blocks = nn.ModuleList(csp(fine * 2, coarse) for fine, coarse in steps)
        out_conv = ConvModule if self.out_kernel_size == 1 else conv
        self.out_convs = nn.ModuleList(
            out_conv(channels, out_channels, self.out_kernel_size, padding=self.out_kernel_size // 2, **shared)
            for channels in in_channels
        )

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of the backbone, finest first -> maps ``(B, out_channels, H, W)`` of the levels, finest first."""
        check_maps(self, inputs, len(self.in_channels))
        coarse = inputs[-1]
        reduced = []  # coarsest first
        for fine, reduce, block in zip(reversed(inputs[:-1]), self.reduce_layers, self.top_down_blocks, strict=True):
            reduced.append(reduce(coarse))
            coarse = block(torch.cat((self.upsample(reduced[-1]), fine), dim=1))
        outs = [coarse]
        for side, downsample, block in zip(reversed(reduced), self.downsamples, self.bottom_up_blocks, strict=True):
            outs.append(block(torch.cat((downsample(outs[-1]), side), dim=1)))
        return tuple(conv(x) for conv, x in zip(self.out_convs, outs, strict=True))


@MODELS.register_module()
class CSPNeXtPAFPN(YOLOXPAFPN):
    """Path aggregation with the blocks of CSPNeXt and 3x3 output convolutions.

    Args:
        expand_ratio: Channels of each half of a CSP layer relative to its output.
    """

    out_kernel_size = 3

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_csp_blocks: int = 3,
        use_depthwise: bool = False,
        expand_ratio: float = 0.5,
        upsample_cfg: dict = dict(scale_factor=2, mode='nearest'),
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: dict = dict(type='Swish'),
        init_cfg: dict | list[dict] | None = KAIMING_UNIFORM,
    ) -> None:
        self.csp_kwargs = dict(expand_ratio=expand_ratio, use_cspnext_block=True)
        super().__init__(
            in_channels,
            out_channels,
            num_csp_blocks,
            use_depthwise,
            upsample_cfg,
            conv_cfg,
            norm_cfg,
            act_cfg,
            init_cfg,
        )
