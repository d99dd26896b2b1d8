"""ATSS (arXiv:1912.02424). Letters: B images, P anchors of all levels, C classes."""

from __future__ import annotations

import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmdet.models.core import as_level, flatten_levels, mean_count, multi_apply, rows
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean

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
        self.cls_convs, self.reg_convs = self._tower(), self._tower()
        kernel = dict(kernel_size=self.pred_kernel_size, padding=self.pred_kernel_size // 2)
        self.atss_cls = nn.Conv2d(self.feat_channels, self.num_base_priors * self.cls_out_channels, **kernel)
        self.atss_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * self.reg_dim, **kernel)
        self.atss_centerness = nn.Conv2d(self.feat_channels, self.num_base_priors, **kernel)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return multi_apply(self.forward_single, x, self.scales)

    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits ``(B, A * C, H, W)``, boxes ``(B, A * 4, H, W)`` and centerness logits ``(B, A, H, W)``."""
        cls_feat = reg_feat = x
        for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs):
            cls_feat, reg_feat = cls_conv(cls_feat), reg_conv(reg_feat)
        # Deltas are decoded in single precision.
        return self.atss_cls(cls_feat), scale(self.atss_reg(reg_feat)).float(), self.atss_centerness(reg_feat)

    def loss_by_feat_single(
        self, anchors, cls_score, bbox_pred, centerness, labels, label_weights, bbox_targets, avg_factor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Focal loss, GIoU weighted by centerness, and centerness (Sec. 3). Called once, with the whole pyramid.

        Args:
            anchors: ``(B, P, 4)``; ``cls_score (B, C, P, 1)`` and so on.
        """
        labels = labels.flatten()
        anchors, boxes = anchors.flatten(0, 1), bbox_targets.flatten(0, 1)
        pos = (labels >= 0) & (labels < self.num_classes)
        pred = self.bbox_coder.decode(anchors, rows(bbox_pred, self.reg_dim))
        boxes = torch.where(pos[:, None], boxes, pred.detach())  # finite, and no loss, off the positives
        quality = self.centerness_target(anchors, boxes) * pos
        return (
            self.loss_cls(
                rows(cls_score, self.cls_out_channels), labels, label_weights.flatten(), avg_factor=avg_factor
            ),
            self.loss_bbox(pred, boxes, weight=quality, avg_factor=1.0),
            self.loss_centerness(rows(centerness, 1)[:, 0], quality, pos.to(quality.dtype), avg_factor=avg_factor),
            quality.sum(),
        )

    def loss_by_feat(
        self, cls_scores, bbox_preds, centernesses, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        loss_cls, loss_bbox, loss_centerness, quality = self.loss_by_feat_single(
            anchors,
            as_level(flatten_levels(cls_scores, self.cls_out_channels)),
            as_level(flatten_levels(bbox_preds, self.reg_dim)),
            as_level(flatten_levels(centernesses, 1)),
            targets.labels,
            targets.label_weights,
            targets.bbox_targets,
            reduce_mean(targets.avg_factor),
        )
        loss_bbox = loss_bbox / mean_count(quality)
        return dict(loss_cls=[loss_cls], loss_bbox=[loss_bbox], loss_centerness=[loss_centerness])

    def centerness_target(self, anchors: Tensor, gts: Tensor) -> Tensor:
        """FCOS's centerness (Eq. 3 there) of the anchors' centres ``(n, 4)`` in boxes ``(n, 4)``; 0 outside."""
        center = (anchors[:, :2] + anchors[:, 2:]) / 2
        low, high = center - gts[:, :2], gts[:, 2:] - center
        ratio = torch.minimum(low, high) / torch.maximum(low, high).clamp(min=1e-12)
        return ratio.clamp(min=0).prod(1).sqrt()
