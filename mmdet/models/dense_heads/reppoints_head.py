"""RepPoints (arXiv:1904.11490). Letters: B images, P locations of all levels, N points of an object."""

from __future__ import annotations

from dataclasses import replace

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    DenseTargets,
    PaddedGT,
    Priors,
    by_batch,
    flatten_levels,
    multi_apply,
    per_level,
)
from mmdet.models.task_modules.coders import clamp_boxes
from mmdet.models.task_modules.prior_generators import MlvlPointGenerator
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.ops import DeformConv2d
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType, InstanceList, MultiConfig, OptInstanceList

from . import joints
from .anchor_free_head import AnchorFreeHead


@MODELS.register_module()
class RepPointsHead(AnchorFreeHead):
    """A first set of points at every location, deformable convolutions at these points, and a refined set.

    Points are offsets from the location in strides, y before x.

    Args:
        num_points: A square number.
        gradient_mul: Share of the classification's gradient that reaches the first set.
        point_base_scale: Side of the initial box in strides.
        use_grid_points: Whether the points form the grid of a box that is regressed (Sec. 4.2, the box baseline).
        center_init: Whether points start at the location; else on a grid.
        transform_method: From points to a box: 'minmax', 'partial_minmax' (the first four points) or 'moment'.
        moment_mul: Share of the gradient that reaches the learned scale of 'moment'.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        point_feat_channels: int = 256,
        num_points: int = 9,
        gradient_mul: float = 0.1,
        point_strides: list[int] = [8, 16, 32, 64, 128],
        point_base_scale: int = 4,
        loss_cls: ConfigType = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox_init: ConfigType = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=0.5),
        loss_bbox_refine: ConfigType = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
        use_grid_points: bool = False,
        center_init: bool = True,
        transform_method: str = 'moment',
        moment_mul: float = 0.01,
        init_cfg: MultiConfig = dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='reppoints_cls_out', std=0.01, bias_prob=0.01),
        ),
        **kwargs,
    ) -> None:
        self.dcn_kernel = round(num_points**0.5)
        if self.dcn_kernel**2 != num_points or self.dcn_kernel % 2 == 0:
            raise UserValueError(f'num_points must be the square of an odd number, not {num_points}')
        if transform_method not in ('minmax', 'partial_minmax', 'moment'):
            raise UserValueError(
                f"transform_method must be 'minmax', 'partial_minmax' or 'moment', not {transform_method!r}"
            )
        self.num_points, self.point_feat_channels = num_points, point_feat_channels
        self.use_grid_points, self.center_init = use_grid_points, center_init
        self.dcn_pad = (self.dcn_kernel - 1) // 2
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, loss_cls=loss_cls, init_cfg=init_cfg, **kwargs
        )
        self.gradient_mul, self.point_base_scale, self.point_strides = gradient_mul, point_base_scale, point_strides
        self.prior_generator = MlvlPointGenerator(point_strides, offset=0.0)
        if self.train_cfg:
            self.init_assigner = TASK_UTILS.build(self.train_cfg['init']['assigner'])
            self.refine_assigner = TASK_UTILS.build(self.train_cfg['refine']['assigner'])
            sampler = self.train_cfg.get('sampler')
            self.sampler = PseudoSampler() if sampler is None else TASK_UTILS.build(sampler)
        self.transform_method = transform_method
        if transform_method == 'moment':
            self.moment_transfer = nn.Parameter(torch.zeros(2))
            self.moment_mul = moment_mul
        self.loss_bbox_init, self.loss_bbox_refine = MODELS.build(loss_bbox_init), MODELS.build(loss_bbox_refine)

    def _init_layers(self) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.cls_convs, self.reg_convs = self._tower(), self._tower()
        channels, hidden = self.feat_channels, self.point_feat_channels
        out = 4 if self.use_grid_points else 2 * self.num_points
        self.reppoints_cls_conv = DeformConv2d(channels, hidden, self.dcn_kernel, 1, self.dcn_pad)
        self.reppoints_cls_out = nn.Conv2d(hidden, self.cls_out_channels, 1)
        self.reppoints_pts_init_conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.reppoints_pts_init_out = nn.Conv2d(hidden, out, 1)
        self.reppoints_pts_refine_conv = DeformConv2d(channels, hidden, self.dcn_kernel, 1, self.dcn_pad)
        self.reppoints_pts_refine_out = nn.Conv2d(hidden, out, 1)

    def _kernel_grid(self, like: Tensor) -> Tensor:
        """Offsets of an undeformed convolution, ``(1, 2 * N, 1, 1)``."""
        base = torch.arange(-self.dcn_pad, self.dcn_pad + 1, dtype=like.dtype, device=like.device)
        y, x = base.repeat_interleave(self.dcn_kernel), base.repeat(self.dcn_kernel)
        return torch.stack([y, x], 1).reshape(1, -1, 1, 1)

    def points2bbox(self, pts: Tensor, y_first: bool = True) -> Tensor:
        """Boxes ``(n, 4, ...)`` of points ``(n, 2 * N, ...)`` (Sec. 3.2)."""
        pts = pts.unflatten(1, (-1, 2))
        y, x = (pts[:, :, 0], pts[:, :, 1]) if y_first else (pts[:, :, 1], pts[:, :, 0])
        if self.transform_method == 'moment':
            # The learned scale follows a part of its gradient only.
            scale = self.moment_transfer * self.moment_mul + self.moment_transfer.detach() * (1 - self.moment_mul)
            cx, cy = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
            half_w = (x - cx).std(1, keepdim=True) * scale[0].exp()
            half_h = (y - cy).std(1, keepdim=True) * scale[1].exp()
            return torch.cat([cx - half_w, cy - half_h, cx + half_w, cy + half_h], 1)
        if self.transform_method == 'partial_minmax':
            x, y = x[:, :4], y[:, :4]
        sides = x.amin(1), y.amin(1), x.amax(1), y.amax(1)
        return torch.stack(sides, 1)

    def centers_to_bboxes(self, point_list: list[list[Tensor]]) -> list[list[Tensor]]:
        """The initial boxes ``(P_level, 4)`` of locations ``(P_level, 3)``, lists by image of lists by level."""
        return [
            [torch.cat([p[:, :2] - half, p[:, :2] + half], 1) for p, half in zip(points, self._half_sides())]
            for points in point_list
        ]

    def _half_sides(self) -> list[float]:
        return [0.5 * self.point_base_scale * stride for stride in self.point_strides]

    def offset_to_pts(self, center_list: list[list[Tensor]], pred_list: list[Tensor]) -> list[Tensor]:
        """Points ``(B, P_level, 2 * N)`` in pixels, x first, of each level.

        Args:
            center_list: Locations ``(P_level, 3)``, lists by image of lists by level.
            pred_list: Offsets ``(B, 2 * N, H, W)`` of each level in strides, y first.
        """
        points = []
        for level, (pred, stride) in enumerate(zip(pred_list, self.point_strides)):
            centers = torch.stack([centers[level][:, :2] for centers in center_list])
            offsets = flatten_levels([pred], 2 * self.num_points).unflatten(-1, (-1, 2)).flip(-1)
            points.append((offsets * stride + centers[:, :, None]).flatten(-2))
        return points

    def _bbox_decode(self, points: Tensor, bbox_pred: Tensor, stride: int, max_shape: tuple[int, int]) -> Tensor:
        """Boxes ``(n, 4)`` of one level in the picture, from its locations and predictions in strides."""
        return clamp_boxes(bbox_pred * stride + points[:, :2].repeat(1, 2), max_shape)

    def gen_grid_from_reg(self, reg: Tensor, previous_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """A grid of points ``(B, 2 * N, H, W)`` and its box ``(B, 4, H, W)``: ``previous_boxes`` moved by ``reg``."""
        center = (previous_boxes[:, :2] + previous_boxes[:, 2:]) / 2
        sides = (previous_boxes[:, 2:] - previous_boxes[:, :2]).clamp(min=1e-6)
        size = sides * reg[:, 2:].exp()
        corner = center + sides * reg[:, :2] - 0.5 * size
        left, top, width, height = torch.cat([corner, size], 1).split(1, 1)  # (B, 1, H, W)
        steps = torch.linspace(0.0, 1.0, self.dcn_kernel, dtype=reg.dtype, device=reg.device).view(1, -1, 1, 1)
        x, y = left + width * steps, top + height * steps  # (B, k, H, W)
        k = self.dcn_kernel
        grid = torch.stack([y[:, :, None].expand(-1, -1, k, -1, -1), x[:, None].expand(-1, k, -1, -1, -1)], 3)
        return grid.flatten(1, 3), torch.cat([left, top, left + width, top + height], 1)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        return multi_apply(self.forward_single, feats)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        """Class logits with both sets of points in training, with the box of the refined set otherwise."""
        kernel = self._kernel_grid(x)
        start: Tensor | float = 0.0
        half = self.point_base_scale / 2
        if self.use_grid_points or not self.center_init:
            start = kernel / self.dcn_pad * half
        cls_feat, pts_feat = self.cls_convs(x), self.reg_convs(x)
        first = self.reppoints_pts_init_out(self.relu(self.reppoints_pts_init_conv(pts_feat)))
        box = None
        if self.use_grid_points:
            box = x.new_ones(1, 4, 1, 1) * half
            box[:, :2] *= -1
            first, box = self.gen_grid_from_reg(first, box)
        else:
            first = first + start
        damped = (1 - self.gradient_mul) * first.detach() + self.gradient_mul * first
        offset = damped - kernel
        scores = self.reppoints_cls_out(self.relu(self.reppoints_cls_conv(cls_feat, offset)))
        refined = self.reppoints_pts_refine_out(self.relu(self.reppoints_pts_refine_conv(pts_feat, offset)))
        if box is not None:
            refined = self.gen_grid_from_reg(refined, box.detach())[0]
        else:
            refined = refined + first.detach()
        if self.training:
            return scores, first, refined
        return scores, self.points2bbox(refined)

    def loss_by_feat(
        self,
        cls_scores,
        pts_preds_init,
        pts_preds_refine,
        batch_gt_instances,
        batch_img_metas,
        batch_gt_instances_ignore=None,
    ) -> dict:
        if hasattr(self.get_points, 'by_batch'):
            priors = self._locations(cls_scores, batch_img_metas)  # (1, P, 4)
        else:
            priors = joints.own_points(self, cls_scores, batch_img_metas)
        centers = priors.boxes[..., :2].repeat(1, 1, 2)
        stride = priors.boxes[0, :, 2:3]  # (P, 1)
        first, refined = (self._to_pixels(level, priors, stride) for level in (pts_preds_init, pts_preds_refine))
        # Locations, or the initial boxes for an assigner of boxes; then the boxes of the first points.
        start = priors
        if self.train_cfg['init']['assigner']['type'] == 'MaxIoUAssigner':
            half = stride * self.point_base_scale * 0.5
            start = Priors(centers + torch.cat([-half, -half, half, half], 1), priors.valid, priors.level_sizes)
        with torch.no_grad():
            boxes = self.points2bbox(first.detach().flatten(0, 1), y_first=False).unflatten(0, (len(first), -1))
        moved = Priors(boxes, priors.valid, priors.level_sizes)
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        init, refine = (
            self._targets(places, gt, stage)
            if hasattr(self.get_targets, 'by_batch')
            else joints.staged_targets(self, places, gt, batch_img_metas, stage)
            for places, stage in ((start, 'init'), (moved, 'refine'))
        )
        if hasattr(self.loss_by_feat_single, 'by_batch'):
            logits = flatten_levels(cls_scores, self.cls_out_channels)
            losses = tuple([loss] for loss in self._losses(logits, first, refined, init, refine, stride))
        else:
            losses = joints.losses_of_points(self, cls_scores, first, refined, init, refine)
        return dict(zip(('loss_cls', 'loss_pts_init', 'loss_pts_refine'), losses))

    def _locations(self, maps: list[Tensor], metas: list[dict]) -> Priors:
        """Locations ``(1, P, 4)`` (x, y, stride, stride) of level maps."""
        priors = self._priors(maps, metas)
        stride = per_level(self.point_strides, priors.level_sizes, priors.boxes)
        stride = stride[None, :, None].expand(-1, -1, 2)
        return Priors(torch.cat([priors.boxes, stride], -1), priors.valid, priors.level_sizes)

    def _targets(self, priors: Priors, gt: PaddedGT, stage: str) -> DenseTargets:
        if not hasattr(self._get_targets_single, 'by_batch'):
            return joints.staged_targets_of_each_image(self, priors, gt, stage)
        return self._build_targets(priors, self._assign(self._assigners[stage], priors, gt), gt, self.train_cfg[stage])

    @property
    def _assigners(self) -> dict:
        return dict(init=self.init_assigner, refine=self.refine_assigner)

    def _losses(
        self,
        logits: Tensor,
        first: Tensor,
        refined: Tensor,
        init: DenseTargets,
        refine: DenseTargets,
        stride: Tensor | float,
    ) -> tuple[Tensor, ...]:
        """Class loss and the box losses of both sets, in units of the initial box.

        Args:
            first, refined: Points ``(B, P, 2 * N)`` in pixels, x before y.
            stride: ``(P, 1)``, or that of the one level.
        """
        sizes, unit = refine.level_sizes, self.point_base_scale * stride
        losses = [
            self._loss(self.loss_cls, sizes, logits, refine.labels, refine.label_weights, avg_factor=refine.avg_factor)
        ]
        for loss, points, t in ((self.loss_bbox_init, first, init), (self.loss_bbox_refine, refined, refine)):
            pred = self.points2bbox(points.flatten(0, 1), y_first=False).unflatten(0, points.shape[:2])
            losses.append(
                self._loss(loss, sizes, pred / unit, t.bbox_targets / unit, t.bbox_weights, avg_factor=t.avg_factor)
            )
        return tuple(losses)

    @by_batch
    def loss_by_feat_single(
        self,
        cls_score: Tensor,
        pts_pred_init: Tensor,
        pts_pred_refine: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_gt_init: Tensor,
        bbox_weights_init: Tensor,
        bbox_gt_refine: Tensor,
        bbox_weights_refine: Tensor,
        stride: Tensor | float,
        avg_factor_init: Tensor,
        avg_factor_refine: Tensor,
    ) -> tuple[Tensor, ...]:
        """The losses of one level.

        Args:
            pts_pred_init, pts_pred_refine: ``(B, P, 2 * N)`` in pixels, x before y.
        """
        targets = lambda boxes, weights, factor: replace(
            joints.level_targets(self.num_classes, labels, label_weights, boxes, weights), avg_factor=factor
        )
        init = targets(bbox_gt_init, bbox_weights_init, avg_factor_init)
        refine = targets(bbox_gt_refine, bbox_weights_refine, avg_factor_refine)
        logits = flatten_levels([cls_score], self.cls_out_channels)
        return self._losses(logits, pts_pred_init, pts_pred_refine, init, refine, stride)

    @by_batch
    def get_points(
        self, featmap_sizes: list[tuple[int, int]], batch_img_metas: list[dict], device: torch.device | str
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Locations ``(P_level, 4)`` (x, y, stride, stride) and valid flags, lists by image of lists by level."""
        pads = tuple(tuple(meta['pad_shape'][:2]) for meta in batch_img_metas)
        return joints.priors_as_lists(self._make_priors(featmap_sizes, pads, device, with_stride=True))

    @by_batch
    def get_targets(
        self,
        proposals_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
        stage: str = 'init',
        unmap_outputs: bool = True,
        return_sampling_results: bool = False,
    ) -> DenseTargets | tuple:
        """Targets of locations (``stage`` 'init') or of the boxes of the first points ('refine').

        Unpacks as labels, label weights, boxes, proposals, proposal weights by level, avg_factor.
        """
        priors = joints.priors_from_lists(proposals_list, valid_flag_list)
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        if hasattr(self._get_targets_single, 'by_batch'):
            assignment = self._assign(self._assigners[stage], priors, gt)
            targets = self._build_targets(priors, assignment, gt, self.train_cfg[stage])
            results = joints.sampling_results(targets, priors, gt, assignment, self.sampler)
        else:
            targets = joints.staged_targets_of_each_image(self, priors, gt, stage)
            results = targets.extras['sampling_results']
        lists = joints.ProposalTargetLists.of(targets, priors.expanded())
        return (*lists, results) if return_sampling_results else lists

    @by_batch
    def _get_targets_single(
        self,
        flat_proposals: Tensor,
        valid_flags: Tensor,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None,
        stage: str = 'init',
        unmap_outputs: bool = True,
    ) -> tuple:
        """Labels, their weights, boxes, proposals, their weights, pos_inds, neg_inds, sampling result of one image."""
        priors = Priors(flat_proposals[None], valid_flags[None].bool(), [len(flat_proposals)])
        gt = PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        assignment = self._assign(self._assigners[stage], priors, gt)
        targets = self._build_targets(priors, assignment, gt, self.train_cfg[stage])
        labels, weights, boxes, box_weights, *rest = joints.image_targets(targets, priors, gt, assignment, self.sampler)
        return labels, weights, boxes, flat_proposals, box_weights, *rest

    def _to_pixels(self, levels: list[Tensor], priors: Priors, stride: Tensor) -> Tensor:
        """Offsets in strides, y first, as points ``(B, P, 2 * N)`` in pixels, x first."""
        flat = flatten_levels(levels, 2 * self.num_points).unflatten(-1, (-1, 2)).flip(-1)
        return (flat * stride[:, None] + priors.boxes[..., None, :2]).flatten(-2)

    def _decode_boxes(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list) -> Tensor:
        boxes = preds * self._candidate_strides(sizes, preds) + priors.repeat(1, 1, 2)
        return clamp_boxes(boxes, shapes)
