"""Region proposals (Faster R-CNN, arXiv:1506.01497, Sec. 3)."""

from __future__ import annotations

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import Proposals, TestCfg, padded_detections
from mmdet.registry import MODELS

from .anchor_head import AnchorHead


class ProposesRegions:
    """Mixin of heads that tell objects from background for a second stage; proposals suppress each other within their
    level only."""

    nms_groups = 'level_ids'

    def _check_classes(self, num_classes: int) -> None:
        if num_classes != 1:
            raise UserValueError(
                f'{type(self).__name__} tells objects from background: num_classes must be 1, not {num_classes}'
            )

    def _results(self, fields: dict, test_cfg: TestCfg, metas: list[dict], rescale: bool, with_nms: bool):
        """Proposals that stay padded on a GPU, so that the second stage starts before the host knows their number."""
        padded = padded_detections(fields, test_cfg, metas, rescale, with_nms, self.nms_groups)
        if padded is not None:
            return Proposals.from_padded(*padded)
        return super()._results(fields, test_cfg, metas, rescale, with_nms)  # type: ignore[misc]  # the head's


@MODELS.register_module()
class RPNHead(ProposesRegions, AnchorHead):
    """Objectness and box of every anchor.

    Args:
        num_convs: Convolutions before the predictors.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1,
        init_cfg=dict(type='Normal', layer='Conv2d', std=0.01),
        num_convs: int = 1,
        **kwargs,
    ) -> None:
        self._check_classes(num_classes)
        self.num_convs = num_convs
        super().__init__(num_classes=num_classes, in_channels=in_channels, init_cfg=init_cfg, **kwargs)

    def _init_layers(self) -> None:
        if self.num_convs > 1:
            widths = [self.in_channels, *[self.feat_channels] * self.num_convs]
            self.rpn_conv: nn.Module = nn.Sequential(
                *(ConvModule(a, b, 3, padding=1, inplace=False) for a, b in zip(widths, widths[1:]))
            )
        else:
            self.rpn_conv = nn.Conv2d(self.in_channels, self.feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(self.feat_channels, self.num_base_priors * self.cls_out_channels, 1)
        self.rpn_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * self.reg_dim, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.rpn_conv(x))
        return self.rpn_cls(x), self.rpn_reg(x)

    def loss_by_feat(
        self, cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        losses = super().loss_by_feat(
            cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        return dict(loss_rpn_cls=losses['loss_cls'], loss_rpn_bbox=losses['loss_bbox'])
