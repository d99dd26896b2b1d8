"""VarifocalNet (arXiv:2008.13367). Letters: B images, P points of all levels, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.cnn import ConvModule, Scale
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    DenseTargets,
    PaddedGT,
    Priors,
    by_batch,
    constant,
    flatten_outputs,
    map_sizes,
    mean_count,
    multi_apply,
    split_levels,
)
from mmdet.models.task_modules.prior_generators import MlvlPointGenerator
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.ops.deform_conv import DeformConv2d
from mmdet.ops.one_hot import one_hot
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps

from . import family_joints, joints
from .anchor_free_head import AnchorFreeHead
from .atss_head import ATSSHead
from .fcos_head import INF, FCOSHead

# What each point of a 3x3 kernel, in the order of its rows, lies away from the centre in y and in x when the kernel is
# spread over the nine points of a box: minus left, minus top, right, bottom, or nothing.
_STAR = ('-t', '-l', '-t', '', '-t', 'r', '', '-l', '', '', '', 'r', 'b', '-l', 'b', '', 'b', 'r')


@MODELS.register_module()
class VFNetHead(ATSSHead, FCOSHead):  # type: ignore[misc]  # of both it takes the targets, by name
    """FCOS with boxes refined from the nine points of a star, and class scores that are overlaps.

    Args:
        use_atss: Whether ATSS chooses the positives, by the anchors of ``anchor_generator``; else FCOS's rule, by
            ``regress_ranges``, ``center_sampling`` and ``center_sample_radius``.
        sync_num_pos: Whether the positives are averaged over the processes.
        gradient_mul: Part of the gradient that goes from the offsets of the star to the first boxes.
        bbox_norm_type: 'reg_denom' for distances in units of the greatest of the level, 'stride' for strides.
        use_vfl, loss_cls, loss_cls_fl: Whether ``loss_cls``, of qualities, or ``loss_cls_fl``, of classes, is the loss.
        loss_bbox, loss_bbox_refine: Losses of the first and of the refined boxes.
    """

    keywords_go_to = AnchorFreeHead
    scales_refine: Any

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        regress_ranges=((-1, 64), (64, 128), (128, 256), (256, 512), (512, INF)),
        center_sampling: bool = False,
        center_sample_radius: float = 1.5,
        sync_num_pos: bool = True,
        gradient_mul: float = 0.1,
        bbox_norm_type: str = 'reg_denom',
        loss_cls_fl=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        use_vfl: bool = True,
        loss_cls=dict(
            type='VarifocalLoss', use_sigmoid=True, alpha=0.75, gamma=2.0, iou_weighted=True, loss_weight=1.0
        ),
        loss_bbox=dict(type='GIoULoss', loss_weight=1.5),
        loss_bbox_refine=dict(type='GIoULoss', loss_weight=2.0),
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        use_atss: bool = True,
        reg_decoded_bbox: bool = True,
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            center_offset=0.0,
            strides=[8, 16, 32, 64, 128],
        ),
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='vfnet_cls', std=0.01, bias_prob=0.01),
        ),
        **kwargs,
    ) -> None:
        if bbox_norm_type not in ('reg_denom', 'stride'):
            raise UserValueError(f"bbox_norm_type must be 'reg_denom' or 'stride', not {bbox_norm_type!r}")
        self.regress_ranges, self.bbox_norm_type = regress_ranges, bbox_norm_type
        self.reg_denoms = [reach for _, reach in regress_ranges]
        self.reg_denoms[-1] = self.reg_denoms[-2] * 2
        self.center_sampling, self.center_sample_radius, self.norm_on_bbox = (
            center_sampling,
            center_sample_radius,
            False,
        )
        self.sync_num_pos, self.gradient_mul, self.use_vfl, self.use_atss = (
            sync_num_pos,
            gradient_mul,
            use_vfl,
            use_atss,
        )
        AnchorFreeHead.__init__(
            self,
            num_classes,
            in_channels,
            loss_cls=loss_cls if use_vfl else loss_cls_fl,
            loss_bbox=loss_bbox,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.loss_bbox_refine = MODELS.build(loss_bbox_refine)
        self.reg_decoded_bbox = reg_decoded_bbox
        self.anchor_center_offset = anchor_generator['center_offset']
        self.sampling = False
        if self.train_cfg:
            self.assigner = TASK_UTILS.build(self.train_cfg['assigner'])
            self.sampler = PseudoSampler()
        self.atss_prior_generator = TASK_UTILS.build(anchor_generator)
        offset = self.anchor_center_offset if use_atss else 0.5
        self.prior_generator = self.fcos_prior_generator = MlvlPointGenerator(anchor_generator['strides'], offset)

    @property
    def num_anchors(self) -> int:
        """One point for each cell."""
        return self.num_base_priors

    @property
    def anchor_generator(self):
        """That of ATSS's anchors."""
        return self.atss_prior_generator

    def _init_layers(self) -> None:
        self._init_cls_convs()
        self._init_reg_convs()
        self.relu = nn.ReLU()
        width, star = self.feat_channels, lambda: DeformConv2d(self.feat_channels, self.feat_channels, 3, padding=1)
        self.vfnet_reg_conv = ConvModule(
            width, width, 3, padding=1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, bias=self.conv_bias
        )
        self.vfnet_reg = nn.Conv2d(width, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)
        self.vfnet_reg_refine_dconv = star()
        self.vfnet_reg_refine = nn.Conv2d(width, 4, 3, padding=1)
        self.scales_refine = nn.ModuleList(Scale(1.0) for _ in self.strides)
        self.vfnet_cls_dconv = star()
        self.vfnet_cls = nn.Conv2d(width, self.cls_out_channels, 3, padding=1)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:  # type: ignore[override]  # two or three
        return multi_apply(self.forward_single, x, self.scales, self.scales_refine, self.strides, self.reg_denoms)

    def forward_single(  # type: ignore[override]  # the arguments of 3.x
        self, x: Tensor, scale: Scale, scale_refine: Scale, stride: int, reg_denom: float
    ) -> tuple[Tensor, ...]:
        """Class logits, first boxes (while training) and refined boxes as distances in pixels."""
        cls_feat, reg_feat = self.cls_convs(x), self.reg_convs(x)
        unit = reg_denom if self.bbox_norm_type == 'reg_denom' else stride
        bbox_pred = scale(self.vfnet_reg(self.vfnet_reg_conv(reg_feat))).float().exp() * unit
        offset = self.star_dcn_offset(bbox_pred, self.gradient_mul, stride).to(reg_feat)
        reg_feat = self.relu(self.vfnet_reg_refine_dconv(reg_feat, offset))
        refined = scale_refine(self.vfnet_reg_refine(reg_feat)).float().exp() * bbox_pred.detach()
        cls_score = self.vfnet_cls(self.relu(self.vfnet_cls_dconv(cls_feat, offset)))
        return (cls_score, bbox_pred, refined) if self.training else (cls_score, refined)

    def star_dcn_offset(self, bbox_pred: Tensor, gradient_mul: float, stride: int) -> Tensor:
        """Offsets ``(B, 18, H, W)`` that spread a 3x3 kernel over the star of boxes ``(B, 4, H, W)`` (Sec. 3.2)."""
        sides = ((1 - gradient_mul) * bbox_pred.detach() + gradient_mul * bbox_pred) / stride
        left, top, right, bottom = sides.unbind(1)
        away = {'': torch.zeros_like(left), '-l': -left, '-t': -top, 'r': right, 'b': bottom}
        grid = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing='ij'), -1).reshape(1, -1, 1, 1)
        return torch.stack([away[point] for point in _STAR], 1) - constant(grid.tolist(), bbox_pred)

    def loss_by_feat(  # type: ignore[override]  # the outputs of 3.x
        self,
        cls_scores,
        bbox_preds,
        bbox_preds_refine,
        batch_gt_instances,
        batch_img_metas,
        batch_gt_instances_ignore=None,
    ) -> dict:
        """``loss_cls``, ``loss_bbox`` and ``loss_bbox_rf``."""
        priors = self._priors(cls_scores)
        if all(
            hasattr(method, 'by_batch') for method in (self.get_targets, self.get_atss_targets, self.get_fcos_targets)
        ):
            gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
            targets = self._point_targets(cls_scores, priors, gt, batch_img_metas)
        else:
            targets = family_joints.vfnet_targets(
                self, cls_scores, priors, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
            )
        logits, first, refined = flatten_outputs(
            (cls_scores, self.cls_out_channels), (bbox_preds, 4), (bbox_preds_refine, 4)
        )
        points = priors.boxes.expand(logits.shape[0], -1, -1)
        pos, sizes = targets.pos, priors.level_sizes
        truth = self.bbox_coder.decode(points, targets.bbox_targets)
        num_pos = mean_count(pos.sum()) if self.sync_num_pos else pos.sum().float()
        loss_bbox, _ = self._box_loss(self.loss_bbox, points, first, truth, pos, sizes)
        loss_refined, overlap = self._box_loss(self.loss_bbox_refine, points, refined, truth, pos, sizes)
        if self.use_vfl:
            quality = one_hot(targets.labels, self.cls_out_channels, logits.dtype) * overlap[..., None]
            loss_cls = self._loss(self.loss_cls, sizes, logits, quality, avg_factor=num_pos)
        else:
            loss_cls = self._loss(
                self.loss_cls, sizes, logits, targets.labels, targets.label_weights, avg_factor=num_pos
            )
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox, loss_bbox_rf=loss_refined)

    def _box_loss(
        self, loss: nn.Module, points: Tensor, preds: Tensor, truth: Tensor, pos: Tensor, sizes: list[int]
    ) -> tuple[Tensor, Tensor]:
        """The loss of distances ``(B, P, 4)``, weighted by their overlap ``(B, P)``, which is 0 off the positives."""
        boxes = self.bbox_coder.decode(points, preds)
        truth = torch.where(pos[..., None], truth, boxes).detach()
        overlap = bbox_overlaps(boxes.detach(), truth, is_aligned=True).clamp(min=1e-6) * pos
        return self._loss(loss, sizes, boxes, truth, overlap, avg_factor=mean_count(overlap.sum())), overlap

    def _point_targets(
        self, cls_scores: Sequence[Tensor], priors: Priors, gt: PaddedGT, metas: list[dict]
    ) -> DenseTargets:
        """Targets whose ``bbox_targets`` are distances in pixels."""
        if not self.use_atss:
            labels, distances = FCOSHead._targets(self, priors, gt)
            return joints.level_targets(self.num_classes, labels, torch.ones_like(distances[..., 0]), distances)
        if hasattr(self.get_anchors, 'by_batch'):
            anchors = self._priors(cls_scores, metas, self.atss_prior_generator)
        else:
            anchors = joints.own_priors(self, cls_scores, metas)
        targets = ATSSHead._targets(self, anchors, gt, metas)
        points = priors.boxes.expand(len(metas), -1, -1)
        targets.bbox_targets = self.bbox_coder.encode(points, targets.bbox_targets)
        return targets

    @by_batch
    def get_anchors(self, featmap_sizes, batch_img_metas, device='cuda'):
        """Anchors of ATSS and their valid flags, as :meth:`AnchorHead.get_anchors`."""
        pads = tuple(tuple(meta['pad_shape'][:2]) for meta in batch_img_metas)
        return joints.priors_as_lists(self._make_priors(featmap_sizes, pads, device, self.atss_prior_generator))

    @by_batch
    def get_targets(  # type: ignore[override]  # the arguments of 3.x
        self, cls_scores, mlvl_points, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> tuple:
        """Labels, label weights, distances and box weights, lists by level with the images one after the other."""
        if not self.use_atss:
            return self.get_fcos_targets(mlvl_points, batch_gt_instances)
        return self.get_atss_targets(
            cls_scores, mlvl_points, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )

    @by_batch
    def get_fcos_targets(self, points: list[Tensor], batch_gt_instances) -> tuple:
        """As :meth:`get_targets`, by FCOS's rule; None for the weights, which are all 1."""
        sizes = [len(level) for level in points]
        priors = Priors(torch.cat(points)[None], torch.ones(1, sum(sizes), dtype=torch.bool), sizes)
        targets = FCOSHead._targets(self, priors, PaddedGT.from_instances(batch_gt_instances))
        labels, distances = joints.point_target_lists(targets, sizes)
        return labels, None, distances, None

    @by_batch
    def get_atss_targets(
        self, cls_scores, mlvl_points, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> tuple:
        """As :meth:`get_targets`, by ATSS's rule."""
        lists = self.get_anchors(map_sizes(cls_scores), batch_img_metas, device=cls_scores[0].device)
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        targets = ATSSHead._targets(self, joints.priors_from_lists(*lists), gt, batch_img_metas)
        by_level = lambda value: [level.flatten(0, 1) for level in split_levels(value, targets.level_sizes)]
        boxes = self.transform_bbox_targets(by_level(targets.bbox_targets), mlvl_points, len(batch_img_metas))
        return by_level(targets.labels), by_level(targets.label_weights), boxes, by_level(targets.bbox_weights)

    def transform_bbox_targets(
        self, decoded_bboxes: list[Tensor], mlvl_points: list[Tensor], num_imgs: int
    ) -> list[Tensor]:
        """Distances ``[(B * P_level, 4)]`` of boxes of the same shapes."""
        levels = zip(mlvl_points, decoded_bboxes)
        return [self.bbox_coder.encode(points.repeat(num_imgs, 1), boxes) for points, boxes in levels]

    @by_batch
    def _get_targets_single(self, *args, **kwargs) -> tuple:  # type: ignore[override]  # that of either parent
        parent = ATSSHead if self.use_atss else FCOSHead
        return parent._get_targets_single(self, *args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        """The names of its predictors were always these."""
        nn.Module._load_from_state_dict(self, *args, **kwargs)
