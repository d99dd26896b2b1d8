from __future__ import annotations

import torch
from mmengine.model import ModuleList, normal_init
from torch import Tensor, nn

from mmdet.models.layers.conv_upsample import ConvUpsample
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .base_semantic_head import BaseSemanticHead, semantic_maps


@MODELS.register_module()
class PanopticFPNHead(BaseSemanticHead):
    """Semantic branch of `Panoptic Feature Pyramid Networks <https://arxiv.org/abs/1901.02446>`_, Sec. 3 and Fig. 3.

    Every level is upsampled to the size of the finest one, and their sum is classified: the stuff classes, and one
    class for all things.

    Args:
        in_channels: Channels of the levels.
        inner_channels: Channels behind their convolutions.
        start_level, end_level: Levels from the first to before the last are used.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        in_channels: int = 256,
        inner_channels: int = 128,
        start_level: int = 0,
        end_level: int = 4,
        conv_cfg: OptConfigType = None,
        norm_cfg: ConfigType = dict(type='GN', num_groups=32, requires_grad=True),
        loss_seg: ConfigType = dict(type='CrossEntropyLoss', ignore_index=-1, loss_weight=1.0),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(num_stuff_classes + 1, 1.0 / 2 ** (start_level + 2), loss_seg, init_cfg)
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.inner_channels = inner_channels
        self.start_level, self.end_level = start_level, end_level
        self.num_stages = end_level - start_level
        self.conv_upsample_layers = ModuleList(
            ConvUpsample(
                in_channels,
                inner_channels,
                num_layers=max(level, 1),
                num_upsample=level,
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg,
            )
            for level in range(self.num_stages)
        )
        self.conv_logits = nn.Conv2d(inner_channels, self.num_classes, 1)

    def init_weights(self) -> None:
        super().init_weights()
        normal_init(self.conv_logits, std=0.01)

    def _set_things_to_void(self, gt_semantic_seg: Tensor) -> Tensor:
        """Labels of things, then stuff, as labels of this head: stuff, then one for all things; others stay."""
        stuff = gt_semantic_seg - self.num_things_classes
        is_stuff = (stuff >= 0) & (stuff < self.num_stuff_classes)
        things = torch.full_like(gt_semantic_seg, self.num_stuff_classes)
        is_thing = (gt_semantic_seg >= 0) & (gt_semantic_seg < self.num_things_classes)
        return torch.where(is_thing, things, torch.where(is_stuff, stuff, gt_semantic_seg))

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        labels = semantic_maps(batch_data_samples).int()  # whose bytes have no room for differences
        return self._loss_of(x, self._set_things_to_void(labels))

    def forward(self, x: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """``seg_preds``, logits ``(B, num_stuff_classes + 1, h, w)``, and ``feats`` ``(B, inner_channels, h, w)``."""
        feats = sum(
            layer(level) for layer, level in zip(self.conv_upsample_layers, x[self.start_level : self.end_level])
        )
        return dict(seg_preds=self.conv_logits(feats), feats=feats)
