"""ResNeXt (arXiv:1611.05431)."""

from __future__ import annotations

import math
from typing import Any

from mmdet.models.backbones.resnet import Bottleneck as _Bottleneck
from mmdet.models.backbones.resnet import ResNet
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS


class Bottleneck(_Bottleneck):
    """Bottleneck whose 3x3 convolution has ``groups`` groups of ``base_width * planes / base_channels`` channels."""

    def __init__(
        self, inplanes: int, planes: int, groups: int = 1, base_width: int = 4, base_channels: int = 64, **kwargs: Any
    ) -> None:
        width = planes if groups == 1 else math.floor(planes * (base_width / base_channels)) * groups
        super().__init__(inplanes, planes, width=width, groups=groups, **kwargs)


@MODELS.register_module()
class ResNeXt(ResNet):
    """ResNet with grouped 3x3 convolutions.

    Args:
        groups: Number of groups (the cardinality).
        base_width: Channels of each group in the first stage.
    """

    arch_settings = {
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }

    def __init__(self, groups: int = 1, base_width: int = 4, **kwargs: Any) -> None:
        self.groups = groups
        self.base_width = base_width
        super().__init__(**kwargs)

    def make_res_layer(self, **kwargs: Any) -> ResLayer:
        """The next stage, of grouped convolutions."""
        return super().make_res_layer(
            groups=self.groups, base_width=self.base_width, base_channels=self.base_channels, **kwargs
        )
