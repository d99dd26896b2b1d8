"""FCOS (arXiv:1904.01355). Letters: B images, P points of all levels, C classes."""

from __future__ import annotations

import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmdet.models.core import (
    PaddedGT,
    PointTargets,
    by_batch,
    flatten_levels,
    mean_count,
    multi_apply,
    overridden,
    per_level,
)
from mmdet.models.task_modules.assigners import space_scale_match
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean

from .anchor_free_head import AnchorFreeHead

INF = 1e8


@MODELS.register_module()
class FCOSHead(AnchorFreeHead):
    """Classes, distances to the four sides, and centerness of every point.

    Args:
        regress_ranges: Lowest and highest farthest side in pixels that each level is trained for (Sec. 3.2).
        center_sampling, center_sample_radius: Whether positives lie within so many strides of the box's centre.
        norm_on_bbox: Whether distances are learned in strides, through ReLU; else in pixels, through exp (Eq. 1).
        centerness_on_reg: Whether centerness stands on the tower of the boxes.
    """

    def __init__(
        self,
        num_classes,
        in_channels,
        regress_ranges=((-1, 64), (64, 128), (128, 256), (256, 512), (512, INF)),
        center_sampling=False,
        center_sample_radius=1.5,
        norm_on_bbox=False,
        centerness_on_reg=False,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='IoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01),
        ),
        **kwargs,
    ) -> None:
        self.regress_ranges = regress_ranges
        self.center_sampling, self.center_sample_radius = center_sampling, center_sample_radius
        self.norm_on_bbox, self.centerness_on_reg = norm_on_bbox, centerness_on_reg
        super().__init__(
            num_classes,
            in_channels,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.loss_centerness = MODELS.build(loss_centerness)

    def _init_layers(self) -> None:
        super()._init_layers()
        self.conv_centerness = nn.Conv2d(self.feat_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return multi_apply(self.forward_single, x, self.scales, self.strides)

    def forward_single(self, x: Tensor, scale: Scale, stride: int) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits, distances (in strides while training with ``norm_on_bbox``, else pixels), centerness logits."""
        cls_score, bbox_pred, cls_feat, reg_feat = super().forward_single(x)
        centerness = self.conv_centerness(reg_feat if self.centerness_on_reg else cls_feat)
        bbox_pred = scale(bbox_pred).float()  # exp overflows in half precision
        if not self.norm_on_bbox:
            return cls_score, bbox_pred.exp(), centerness
        bbox_pred = bbox_pred.clamp(min=0)
        return cls_score, bbox_pred if self.training else bbox_pred * stride, centerness

    def loss_by_feat(
        self, cls_scores, bbox_preds, centernesses, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        levels = self._points(bbox_preds)
        batch = len(batch_img_metas)
        targets = PointTargets.coerce(self.get_targets(levels, batch_gt_instances), batch)
        points = torch.cat(levels).expand(batch, -1, -1).flatten(0, 1)  # (B * P, 2)
        labels = targets.labels.flatten()
        pos = (labels >= 0) & (labels < self.num_classes)
        num_pos = mean_count(pos.sum())

        logits = flatten_levels(cls_scores, self.cls_out_channels).flatten(0, 1)
        pred = flatten_levels(bbox_preds, 4).flatten(0, 1)
        distances = torch.where(pos[:, None], targets.bbox_targets.flatten(0, 1), pred.detach())
        quality = self.centerness_target(distances) * pos
        return dict(
            loss_cls=self.loss_cls(logits, labels, avg_factor=num_pos),
            loss_bbox=self.loss_bbox(
                self.bbox_coder.decode(points, pred),
                self.bbox_coder.decode(points, distances),
                weight=quality,
                avg_factor=reduce_mean(quality.sum()).clamp(min=1e-6),
            ),
            loss_centerness=self.loss_centerness(
                flatten_levels(centernesses, 1).flatten(), quality, pos.to(quality.dtype), avg_factor=num_pos
            ),
        )

    def get_targets(self, points: list[Tensor], batch_gt_instances) -> PointTargets:
        """Labels and distances, the latter in strides with ``norm_on_bbox``, of points ``[(P_level, 2)]``."""
        if len(points) != len(self.regress_ranges):
            raise ValueError(f'{len(points)} levels, but {len(self.regress_ranges)} regress_ranges')
        sizes = [len(level) for level in points]
        flat = torch.cat(points)
        if overridden(self, '_get_targets_single'):
            ranges = per_level(self.regress_ranges, sizes, flat)
            singles = [self._get_targets_single(gt, flat, ranges, sizes) for gt in batch_gt_instances]
            labels, distances = (torch.stack(values) for values in zip(*singles))
        else:
            labels, distances = self._match(flat, sizes, PaddedGT.from_instances(batch_gt_instances))
        if self.norm_on_bbox:
            distances = distances / per_level(self.strides, sizes, flat)[:, None]
        return PointTargets(labels, distances, sizes)

    @by_batch
    def _get_targets_single(self, gt_instances, points: Tensor, regress_ranges: Tensor, num_points_per_lvl: list[int]):
        """Labels ``(P,)`` and distances in pixels ``(P, 4)`` of one image: the batched path with B = 1."""
        labels, distances = self._match(points, num_points_per_lvl, PaddedGT.from_instances([gt_instances]))
        return labels[0], distances[0]

    def _match(self, points: Tensor, sizes: list[int], gt: PaddedGT) -> tuple[Tensor, Tensor]:
        assignment = space_scale_match(
            points,
            per_level(self.strides, sizes, points),
            per_level(self.regress_ranges, sizes, points),
            gt,
            self.center_sample_radius if self.center_sampling else None,
        )
        boxes, labels = gt.gather(assignment.gt_inds)
        return torch.where(assignment.pos, labels, self.num_classes), self.bbox_coder.encode(points, boxes)

    def centerness_target(self, pos_bbox_targets: Tensor) -> Tensor:
        """Eq. 3 of distances ``(n, 4)``: 1 at the centre of the box, 0 at its sides."""
        left_right, top_bottom = pos_bbox_targets[:, 0::2], pos_bbox_targets[:, 1::2]
        ratio_x = left_right.amin(-1) / left_right.amax(-1).clamp(min=1e-12)
        ratio_y = top_bottom.amin(-1) / top_bottom.amax(-1).clamp(min=1e-12)
        return (ratio_x * ratio_y).clamp(min=0).sqrt()
