"""CSPNeXt of RTMDet (arXiv:2212.07784)."""

from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import nn

from mmdet.models.backbones.csp_darknet import CSPDarknet, stage_settings
from mmdet.models.layers.building import KAIMING_UNIFORM
from mmdet.models.layers.csp_layer import CSPLayer
from mmdet.registry import MODELS


@MODELS.register_module()
class CSPNeXt(CSPDarknet):
    """CSPDarknet with three convolutions as stem and large depthwise kernels in the blocks.

    Args:
        expand_ratio: Channels of each half of a stage relative to the stage's.
        channel_attention: A gate per channel at the end of each stage.
    """

    arch_settings = stage_settings(6)

    def __init__(
        self,
        arch: str = 'P5',
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        out_indices: tuple[int, ...] = (2, 3, 4),
        frozen_stages: int = -1,
        use_depthwise: bool = False,
        expand_ratio: float = 0.5,
        arch_ovewrite: list[list] | None = None,
        spp_kernel_sizes: tuple[int, ...] = (5, 9, 13),
        channel_attention: bool = True,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: dict = dict(type='SiLU'),
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = KAIMING_UNIFORM,
    ) -> None:
        self.expand_ratio = expand_ratio
        self.channel_attention = channel_attention
        super().__init__(
            arch,
            deepen_factor,
            widen_factor,
            out_indices,
            frozen_stages,
            use_depthwise,
            arch_ovewrite,
            spp_kernel_sizes,
            conv_cfg,
            norm_cfg,
            act_cfg,
            norm_eval,
            init_cfg,
        )

    def _make_stem(self, channels: float, **shared: dict | None) -> nn.Module:
        half = int(channels // 2)
        return nn.Sequential(
            ConvModule(3, half, 3, stride=2, padding=1, **shared),
            ConvModule(half, half, 3, padding=1, **shared),
            ConvModule(half, int(channels), 3, padding=1, **shared),
        )

    def _make_csp_layer(self, channels: int, num_blocks: int, add_identity: bool, **shared: dict | None) -> CSPLayer:
        return CSPLayer(
            channels,
            channels,
            expand_ratio=self.expand_ratio,
            num_blocks=num_blocks,
            add_identity=add_identity,
            use_depthwise=self.use_depthwise,
            use_cspnext_block=True,
            channel_attention=self.channel_attention,
            **shared,
        )
