"""VGG (arXiv:1409.1556) as SSD (arXiv:1512.02325) uses it."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserKeyError
from mmdet.models.layers.building import pretrained_init_cfg
from mmdet.registry import MODELS


@MODELS.register_module()
class SSDVGG(BaseModule):
    """VGG whose fully connected layers are dilated convolutions (SSD Sec. 3.1).

    Args:
        with_last_pool: Keep the pooling after the fifth stage.
        ceil_mode: Round sizes up when pooling.
        out_feature_indices: Positions in ``features`` whose outputs are returned.
        out_indices, input_size, l2_norm_scale: Not used; older configs give them.
    """

    arch_settings = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

    def __init__(
        self,
        depth: int,
        with_last_pool: bool = False,
        ceil_mode: bool = True,
        out_indices: tuple[int, ...] = (3, 4),
        out_feature_indices: tuple[int, ...] = (22, 34),
        pretrained: str | None = None,
        init_cfg: dict | list[dict] | None = None,
        input_size: int | None = None,
        l2_norm_scale: float | None = None,
    ) -> None:
        default = [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='BatchNorm2d'),
            dict(type='Normal', std=0.01, layer='Linear'),
        ]
        super().__init__(pretrained_init_cfg(pretrained, init_cfg, default))
        if depth not in self.arch_settings:
            raise UserKeyError(f'SSDVGG has no depth {depth!r}, but {", ".join(map(str, self.arch_settings))}')
        self.depth = depth
        self.out_indices = out_indices
        self.out_feature_indices = out_feature_indices
        layers: list[nn.Module] = []
        in_channels = 3
        for stage, num_convs in enumerate(self.arch_settings[depth]):
            channels = 64 * 2 ** min(stage, 3)
            for _ in range(num_convs):
                layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
                in_channels = channels
            layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=ceil_mode))
        if not with_last_pool:
            layers.pop()
        layers += [
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            nn.ReLU(inplace=True),
            nn.Conv2d(1024, 1024, 1),
            nn.ReLU(inplace=True),
        ]
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Images -> the maps of ``out_feature_indices``, or the map if it is one."""
        outs = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.out_feature_indices:
                outs.append(x)
        return outs[0] if len(outs) == 1 else tuple(outs)
