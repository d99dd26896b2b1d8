"""Balanced Feature Pyramid of Libra R-CNN (arXiv:1904.02701)."""

from __future__ import annotations

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks import NonLocal2d
from mmengine.model import BaseModule
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.layers.building import conv_module_options
from mmdet.models.necks.levels import check_maps
from mmdet.registry import MODELS


def _resize(x: Tensor, size: tuple[int, int], finer: bool) -> Tensor:
    """``x`` at ``size``; ``finer`` tells whether that is finer than (or like) the present one."""
    return F.interpolate(x, size, mode='nearest') if finer else F.adaptive_max_pool2d(x, size)


@MODELS.register_module()
class BFP(BaseModule):
    """All levels are averaged at one size, refined, and added back to each (Sec. 3.2).

    Args:
        refine_level: Level at whose size they are averaged.
        refine_type: None, 'conv' or 'non_local'.
    """

    def __init__(
        self,
        in_channels: int,
        num_levels: int,
        refine_level: int = 2,
        refine_type: str | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = dict(type='Xavier', layer='Conv2d', distribution='uniform'),
    ) -> None:
        super().__init__(init_cfg)
        if refine_type not in (None, 'conv', 'non_local'):
            raise UserValueError(f"refine_type must be None, 'conv' or 'non_local', got {refine_type!r}")
        if not 0 <= refine_level < num_levels:
            raise UserValueError(f'refine_level must be 0 to {num_levels - 1}, got {refine_level}')
        self.in_channels = in_channels
        self.num_levels = num_levels
        self.refine_level = refine_level
        self.refine_type = refine_type
        shared = conv_module_options(conv_cfg, norm_cfg)
        if refine_type == 'conv':
            self.refine = ConvModule(in_channels, in_channels, 3, padding=1, **shared)
        elif refine_type == 'non_local':
            self.refine = NonLocal2d(in_channels, reduction=1, use_scale=False, **shared)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As many maps as came in: the balanced map, added at every size."""
        check_maps(self, inputs, self.num_levels)
        size = inputs[self.refine_level].shape[2:]
        balanced = sum(_resize(x, size, finer=i >= self.refine_level) for i, x in enumerate(inputs)) / len(inputs)
        if self.refine_type is not None:
            balanced = self.refine(balanced)
        return tuple(_resize(balanced, x.shape[2:], finer=i < self.refine_level) + x for i, x in enumerate(inputs))
