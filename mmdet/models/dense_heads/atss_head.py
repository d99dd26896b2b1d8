"""ATSS (arXiv:1912.02424). Letters: B images, P anchors of all levels, C classes."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmdet.models.core import DenseTargets, by_batch, flatten_outputs, mean_count, multi_apply
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean

from . import joints
from .anchor_head import AnchorHead, AnchorsInTargets


@MODELS.register_module()
class ATSSHead(AnchorsInTargets, AnchorHead):
    """RetinaNet's towers with one anchor per location, GIoU on boxes, and centerness.

    Args:
        pred_kernel_size: Kernel of the three predictors.
        dcn_on_last_conv: Whether the last convolution of each tower is deformable (DCNv2).

    Which anchors are positive is the choice of ``train_cfg.assigner``: `ATSSAssigner`, `SpaceScaleAssigner` (FCOS),
    `MaxIoUAssigner` (RetinaNet) or `TopkAssigner`. What boxes are regressed from is that of ``bbox_coder``: the anchor
    with `DeltaXYWHBBoxCoder`, its centre with `AnchorPointBBoxCoder`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        pred_kernel_size: int = 3,
        stacked_convs: int = 4,
        conv_cfg=None,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        reg_decoded_bbox: bool = True,
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='atss_cls', std=0.01, bias_prob=0.01),
        ),
        dcn_on_last_conv: bool = False,
        **kwargs,
    ) -> None:
        self.pred_kernel_size, self.stacked_convs = pred_kernel_size, stacked_convs
        self.conv_cfg, self.norm_cfg, self.dcn_on_last_conv = conv_cfg, norm_cfg, dcn_on_last_conv
        super().__init__(num_classes, in_channels, reg_decoded_bbox=reg_decoded_bbox, init_cfg=init_cfg, **kwargs)
        self.sampling = False
        self.loss_centerness = MODELS.build(loss_centerness)

    def _init_layers(self) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.cls_convs, self.reg_convs = self._towers()
        kernel: dict[str, Any] = dict(kernel_size=self.pred_kernel_size, padding=self.pred_kernel_size // 2)
        self.atss_cls = nn.Conv2d(self.feat_channels, self.num_base_priors * self.cls_out_channels, **kernel)
        self.atss_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * self.reg_dim, **kernel)
        self.atss_centerness = nn.Conv2d(self.feat_channels, self.num_base_priors, **kernel)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return multi_apply(self.forward_single, x, self.scales)

    # Each level has a scale of its own, as in 3.x.
    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Class logits ``(B, A * C, H, W)``, boxes ``(B, A * 4, H, W)`` and centerness logits ``(B, A, H, W)``."""
        cls_feat, reg_feat = self.cls_convs(x), self.reg_convs(x)
        # Deltas are decoded in single precision.
        return self.atss_cls(cls_feat), scale(self.atss_reg(reg_feat)).float(), self.atss_centerness(reg_feat)

    def loss_by_feat(  # type: ignore[override]  # a third output, as in 3.x
        self, cls_scores, bbox_preds, centernesses, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        outputs = (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim), (centernesses, 1)
        loss_cls, loss_bbox, loss_centerness, quality = self._each_loss(
            outputs, anchors, targets, reduce_mean(targets.avg_factor)
        )
        total = mean_count(sum(quality))
        return dict(loss_cls=loss_cls, loss_bbox=[loss / total for loss in loss_bbox], loss_centerness=loss_centerness)

    def _losses(  # type: ignore[override]  # one value more, of the third output
        self, logits: Tensor, preds: Tensor, centerness: Tensor, anchors: Tensor, targets: DenseTargets, avg_factor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Focal loss, GIoU weighted by centerness, and centerness (Sec. 3), and the sum of the weights."""
        loss_cls = self._loss(
            self.loss_cls, targets.level_sizes, logits, targets.labels, targets.label_weights, avg_factor=avg_factor
        )
        return loss_cls, *self._box_losses(preds, centerness, anchors, targets, avg_factor)

    def _box_losses(
        self, preds: Tensor, centerness: Tensor, anchors: Tensor, targets: DenseTargets, avg_factor
    ) -> tuple[Tensor, Tensor, Tensor]:
        t, sizes = targets, targets.level_sizes
        pred = self.bbox_coder.decode(anchors, preds)
        boxes = torch.where(t.pos[..., None], t.bbox_targets, pred.detach())  # finite, and no loss, off the positives
        quality = self.centerness_target(anchors, boxes) * t.pos
        return (
            self._loss(self.loss_bbox, sizes, pred, boxes, quality, avg_factor=1.0),
            self._loss(
                self.loss_centerness,
                sizes,
                centerness[..., 0],
                quality,
                t.pos.to(quality.dtype),
                avg_factor=avg_factor,
            ),
            quality.sum(),
        )

    @by_batch
    def loss_by_feat_single(
        self, anchors, cls_score, bbox_pred, centerness, labels, label_weights, bbox_targets, avg_factor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of one level, or of the whole pyramid dressed as one, and the sum of the weights of its boxes.

        Args:
            anchors: ``(B, P, 4)``; ``cls_score (B, A * C, H, W)`` and so on.
        """
        targets = joints.level_targets(self.num_classes, labels, label_weights, bbox_targets)
        logits, preds, centerness = flatten_outputs(
            ([cls_score], self.cls_out_channels), ([bbox_pred], self.reg_dim), ([centerness], 1)
        )
        return self._losses(logits, preds, centerness, anchors, targets, avg_factor)

    def centerness_target(self, anchors: Tensor, gts: Tensor) -> Tensor:
        """FCOS's centerness (Eq. 3 there) of the anchors' centres ``(..., 4)`` in boxes ``(..., 4)``; 0 outside."""
        center = (anchors[..., :2] + anchors[..., 2:]) / 2
        low, high = center - gts[..., :2], gts[..., 2:] - center
        ratio = torch.minimum(low, high) / torch.maximum(low, high).clamp(min=1e-12)
        return ratio.clamp(min=0).prod(-1).sqrt()
