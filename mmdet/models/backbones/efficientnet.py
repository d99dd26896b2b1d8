"""EfficientNet (arXiv:1905.11946)."""

from __future__ import annotations

import math

from mmcv.cnn import ConvModule
from mmengine.model import Sequential
from torch import Tensor, nn

from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.backbones.base import Backbone, freeze
from mmdet.models.layers.building import conv_module_options, conv_norm_init_cfg, make_divisible
from mmdet.models.layers.inverted_residual import InvertedResidual
from mmdet.registry import MODELS


@MODELS.register_module()
class EfficientNet(Backbone):
    """EfficientNet-B0 to B8, returning the outputs ``out_indices``.

    Args:
        out_indices: 0 is the stem, 1 to 5 the stages of stride 2, 4, 8, 16 and 32, 6 the last 1x1 convolution.
        frozen_stages: Number of these whose layers stay as they are.
    """

    # kernel size, channels, stride, expansion and number of blocks of B0 (Table 1), by stage
    stage_settings = (
        ((3, 16, 1, 1, 1),),
        ((3, 24, 2, 6, 2),),
        ((5, 40, 2, 6, 2),),
        ((3, 80, 2, 6, 3), (5, 112, 1, 6, 3)),
        ((5, 192, 2, 6, 4), (3, 320, 1, 6, 1)),
    )
    # factors on the channels and on the number of blocks
    arch_settings = {
        'b0': (1.0, 1.0),
        'b1': (1.0, 1.1),
        'b2': (1.1, 1.2),
        'b3': (1.2, 1.4),
        'b4': (1.4, 1.8),
        'b5': (1.6, 2.2),
        'b6': (1.8, 2.6),
        'b7': (2.0, 3.1),
        'b8': (2.2, 3.6),
    }

    def __init__(
        self,
        arch: str = 'b0',
        drop_path_rate: float = 0.0,
        out_indices: tuple[int, ...] = (6,),
        frozen_stages: int = 0,
        conv_cfg: dict | None = dict(type='Conv2dAdaptivePadding'),
        norm_cfg: dict = dict(type='BN', eps=1e-3),
        act_cfg: dict = dict(type='Swish'),
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(conv_norm_init_cfg() if init_cfg is None else init_cfg)
        if arch not in self.arch_settings:
            raise UserKeyError(f'EfficientNet has no arch {arch!r}, but {", ".join(self.arch_settings)}')
        if not set(out_indices) <= set(range(7)):
            raise UserValueError(f'out_indices must be among 0 to 6, got {out_indices}')
        if frozen_stages not in range(8):
            raise UserValueError(f'frozen_stages must be 0 to 7, got {frozen_stages}')
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        shared = conv_module_options(conv_cfg, norm_cfg, act_cfg=act_cfg)
        width, depth = self.arch_settings[arch]
        stages = [
            [
                (kernel_size, make_divisible(channels * width, 8), stride, expansion, math.ceil(count * depth))
                for kernel_size, channels, stride, expansion, count in stage
            ]
            for stage in self.stage_settings
        ]
        num_blocks = sum(part[-1] for stage in stages for part in stage)
        rates = iter(drop_path_rate * i / (num_blocks - 1) for i in range(num_blocks))  # deeper, more often

        in_channels = make_divisible(32 * width, 8)
        self.layers = nn.ModuleList([ConvModule(3, in_channels, 3, stride=2, padding=1, **shared)])
        for stage in stages[: max(out_indices)]:
            blocks = []
            for kernel_size, channels, stride, expansion, count in stage:
                for i in range(count):
                    inner = in_channels * expansion
                    blocks.append(
                        InvertedResidual(
                            in_channels,
                            channels,
                            inner,
                            kernel_size,
                            stride if i == 0 else 1,
                            # the gate is as narrow as a quarter of the block's input
                            dict(channels=inner, ratio=expansion * 4, act_cfg=(act_cfg, dict(type='Sigmoid'))),
                            with_expand_conv=expansion != 1,
                            drop_path_rate=next(rates),
                            with_cp=with_cp,
                            **shared,
                        )
                    )
                    in_channels = channels
            self.layers.append(Sequential(*blocks))
        if max(out_indices) == len(stages) + 1:
            self.layers.append(ConvModule(in_channels, make_divisible(1280 * width, 8), 1, **shared))

    def _freeze_stages(self) -> None:
        freeze(self.layers[: self.frozen_stages])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` -> the maps of ``out_indices``."""
        return self.run_stages(x, self.layers)
