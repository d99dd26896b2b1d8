"""FCOS (arXiv:1904.01355). Letters: B images, P points of all levels, C classes."""

from __future__ import annotations

import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    PaddedGT,
    Priors,
    by_batch,
    flatten_outputs,
    mean_count,
    multi_apply,
    per_level,
)
from mmdet.models.layers import NormedConv2d
from mmdet.models.task_modules.assigners import space_scale_match
from mmdet.registry import MODELS
from mmdet.utils import InstanceList

from . import joints
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
        cls_predictor_cfg: Classes by cosine similarity: arguments of ``NormedConv2d``, whose kernel is 1x1 here.
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
        cls_predictor_cfg=None,
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01),
        ),
        **kwargs,
    ) -> None:
        self.cls_predictor_cfg = cls_predictor_cfg
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
        if self.cls_predictor_cfg is not None:
            options = {key: value for key, value in self.cls_predictor_cfg.items() if key != 'type'}
            self.conv_cls = NormedConv2d(self.feat_channels, self.cls_out_channels, 1, **options)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return multi_apply(self.forward_single, x, self.scales, self.strides)

    # Each level has a scale and a stride, as in 3.x.
    def forward_single(  # type: ignore[override]
        self, x: Tensor, scale: Scale, stride: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits, distances (in strides while training with ``norm_on_bbox``, else pixels), centerness logits."""
        return self._outputs(self.cls_convs(x), self.reg_convs(x), scale, stride)

    def _outputs(self, cls_feat: Tensor, reg_feat: Tensor, scale: Scale, stride: int) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`forward_single` gives, of the features of both towers."""
        cls_score = self.conv_cls(cls_feat)
        centerness = self.conv_centerness(reg_feat if self.centerness_on_reg else cls_feat)
        bbox_pred = scale(self.conv_reg(reg_feat)).float()  # exp overflows in half precision
        if not self.norm_on_bbox:
            return cls_score, bbox_pred.exp(), centerness
        bbox_pred = bbox_pred.clamp(min=0)
        return cls_score, bbox_pred if self.training else bbox_pred * stride, centerness

    def loss_by_feat(
        self, cls_scores, bbox_preds, centernesses, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        priors = self._priors(cls_scores)
        labels, distances, *_ = self._all_targets(priors, batch_gt_instances)
        return self._losses(cls_scores, bbox_preds, centernesses, priors, labels, distances)

    def _losses(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor],
        priors: Priors,
        labels: Tensor,
        distances: Tensor,
    ) -> dict:
        """Losses of level maps against labels ``(B, P)`` and distances ``(B, P, 4)``."""
        logits, pred, centerness = flatten_outputs(
            (cls_scores, self.cls_out_channels), (bbox_preds, 4), (centernesses, 1)
        )  # (B, P, .)
        pos = (labels >= 0) & (labels < self.num_classes)
        num_pos = mean_count(pos.sum())
        distances = torch.where(pos[..., None], distances, pred.detach())  # finite, and no loss, off the positives
        quality = self.centerness_target(distances) * pos
        points = priors.boxes.expand(pred.shape[0], -1, -1)
        boxes, targets = self.bbox_coder.decode(points, pred), self.bbox_coder.decode(points, distances)
        quality_sum = mean_count(quality.sum(), 1e-6)
        sizes = priors.level_sizes
        return dict(
            loss_cls=self._loss(self.loss_cls, sizes, logits, labels, avg_factor=num_pos),
            loss_bbox=self._loss(self.loss_bbox, sizes, boxes, targets, quality, avg_factor=quality_sum),
            loss_centerness=self._loss(
                self.loss_centerness, sizes, centerness[..., 0], quality, pos.to(quality.dtype), avg_factor=num_pos
            ),
        )

    def _all_targets(self, priors: Priors, gt_instances: InstanceList) -> tuple[Tensor, ...]:
        """As :meth:`_targets`, by an own :meth:`get_targets` where there is one."""
        if hasattr(self.get_targets, 'by_batch'):
            return self._targets(priors, PaddedGT.from_instances(gt_instances))
        return joints.point_targets(self, priors, gt_instances)

    def _targets(self, priors: Priors, gt: PaddedGT) -> tuple[Tensor, ...]:
        """Labels ``(B, P)`` and distances ``(B, P, 4)``, the latter in strides with ``norm_on_bbox``; a subclass may
        have more."""
        points, sizes = priors.boxes[0], priors.level_sizes
        if len(sizes) != len(self.regress_ranges):
            raise UserValueError(f'{len(sizes)} levels, but {len(self.regress_ranges)} regress_ranges')
        ranges, strides = per_level(self.regress_ranges, sizes, points), per_level(self.strides, sizes, points)
        if hasattr(self._get_targets_single, 'by_batch'):
            labels, distances, *rest = self._match(points, ranges, strides, gt)
        else:
            labels, distances, *rest = joints.point_targets_of_each_image(self, gt, points, ranges, sizes)
        return labels, distances / strides[:, None] if self.norm_on_bbox else distances, *rest

    def _match(self, points: Tensor, ranges: Tensor, strides: Tensor, gt: PaddedGT) -> tuple[Tensor, ...]:
        """As :meth:`_targets`, with distances in pixels."""
        return self._targets_of(self._assignment(points, ranges, strides, gt), points, gt)

    def _assignment(self, points: Tensor, ranges: Tensor, strides: Tensor, gt: PaddedGT) -> Assignment:
        radius = self.center_sample_radius if self.center_sampling else None
        return space_scale_match(points, strides, ranges, gt, radius, centers=self._centers(gt))

    def _centers(self, gt: PaddedGT) -> Tensor | None:
        """``(B, G, 2)`` xy of the objects' centres, None for those of their boxes."""
        return None

    def _targets_of(self, assignment: Assignment, points: Tensor, gt: PaddedGT) -> tuple[Tensor, ...]:
        boxes, labels = gt.gather(assignment.gt_inds)
        labels = torch.where(assignment.gt_inds > 0, labels, self.num_classes)
        return labels, self.bbox_coder.encode(points.expand(len(boxes), -1, -1), boxes)

    @by_batch
    def get_targets(self, points: list[Tensor], batch_gt_instances) -> tuple[list[Tensor], ...]:
        """Labels and distances of points ``[(P_level, 2)]``, lists by level with the images one after the other."""
        sizes = [len(level) for level in points]
        priors = Priors(torch.cat(points)[None], torch.ones_like(points[0][None, :, 0], dtype=torch.bool), sizes)
        targets = self._targets(priors, PaddedGT.from_instances(batch_gt_instances))
        return joints.point_target_lists(targets, sizes)

    @by_batch
    def _get_targets_single(self, gt_instances, points: Tensor, regress_ranges: Tensor, num_points_per_lvl: list[int]):
        """Labels ``(P,)`` and distances in pixels ``(P, 4)`` of one image."""
        strides = per_level(self.strides, num_points_per_lvl, points)
        targets = self._match(points, regress_ranges, strides, PaddedGT.from_instances([gt_instances]))
        return tuple(value[0] for value in targets)

    def centerness_target(self, pos_bbox_targets: Tensor) -> Tensor:
        """Eq. 3 of distances ``(..., 4)``: 1 at the centre of the box, 0 at its sides."""
        left_right, top_bottom = pos_bbox_targets[..., 0::2], pos_bbox_targets[..., 1::2]
        ratio_x = left_right.amin(-1) / left_right.amax(-1).clamp(min=1e-12)
        ratio_y = top_bottom.amin(-1) / top_bottom.amax(-1).clamp(min=1e-12)
        return (ratio_x * ratio_y).clamp(min=0).sqrt()
