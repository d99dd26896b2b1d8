"""The first stage of CenterNet2 (arXiv:2103.07461) as a detector: CenterNet on a pyramid, with regression as in FCOS.

Letters: B images, G ground truths, P points of all levels, L levels, C classes, N = B * P points of a batch, level by
level and in each image by image, M objects, K = 9 cells around a centre.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import Scale
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    BestMatch,
    PaddedGT,
    Priors,
    by_batch,
    constant,
    map_sizes,
    mean_count,
    multi_apply,
    per_level,
    raise_by_class,
)
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType

from . import joints, peaks
from .anchor_free_head import AnchorFreeHead

INF = 1000000000
FAINT = 1e-4
"""Below it the heat of an object is lost."""


@MODELS.register_module()
class CenterNetUpdateHead(AnchorFreeHead):
    """Classes as heat maps whose peaks are the centres of objects, and distances to the sides of the box.

    An object is a positive of the classes in the cell of its centre on the level of its size, and in cells beside it
    and on other levels whose box is already good. Boxes are learned in the 3 x 3 cells around the centre.

    Args:
        regress_ranges: Least and greatest half diagonal in pixels of the boxes of each level.
        hm_min_radius: Least radius of the Gaussian of an object in pixels.
        hm_min_overlap: IoU of the box with itself when it is moved by the radius.
        more_pos_thresh, more_pos_topk: Further positives have a box loss below the first, and below the loss of that
            rank among the object's cells.
        soft_weight_on_reg: Whether the heat weighs the box losses.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        regress_ranges: Sequence[tuple[float, float]] = ((0, 80), (64, 160), (128, 320), (256, 640), (512, INF)),
        hm_min_radius: int = 4,
        hm_min_overlap: float = 0.8,
        more_pos_thresh: float = 0.2,
        more_pos_topk: int = 9,
        soft_weight_on_reg: bool = False,
        loss_cls: ConfigType = dict(type='GaussianFocalLoss', pos_weight=0.25, neg_weight=0.75, loss_weight=1.0),
        loss_bbox: ConfigType = dict(type='GIoULoss', loss_weight=2.0),
        norm_cfg: OptConfigType = dict(type='GN', num_groups=32, requires_grad=True),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        **kwargs,
    ) -> None:
        super().__init__(
            num_classes,
            in_channels,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            norm_cfg=norm_cfg,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            **kwargs,
        )
        self.regress_ranges, self.hm_min_radius = regress_ranges, hm_min_radius
        self.more_pos_thresh, self.more_pos_topk = more_pos_thresh, more_pos_topk
        self.delta = (1 - hm_min_overlap) / (1 + hm_min_overlap)
        self.sigmoid_clamp = 0.0001
        self.soft_weight_on_reg = soft_weight_on_reg
        self.use_sigmoid_cls, self.cls_out_channels = True, num_classes

    def _init_predictor(self) -> None:
        self.conv_cls = nn.Conv2d(self.feat_channels, self.num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(self.feat_channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        return multi_apply(self.forward_single, x, self.scales, self.strides)

    # Each level has a scale and a stride, as in 3.x.
    def forward_single(self, x: Tensor, scale: Scale, stride: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Class logits and distances, the latter in strides while training and else in pixels."""
        cls_score, bbox_pred, _, _ = super().forward_single(x)
        bbox_pred = scale(bbox_pred).float().clamp(min=0)
        return cls_score, bbox_pred if self.training else bbox_pred * stride

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: InstanceList | None = None,
    ) -> dict:
        priors, sizes = self._priors(cls_scores), map_sizes(cls_scores)
        gt = PaddedGT.from_instances(batch_gt_instances)
        levels = joints.split_levels(priors.boxes[0], priors.level_sizes, 0)
        if hasattr(self.get_targets, 'by_batch'):
            heat, distances = self._targets(priors, gt)
        else:
            heat, distances = self.get_targets(levels, batch_gt_instances)
        points = torch.cat([level.repeat(len(gt.mask), 1) for level in levels])  # (N, 2)
        logits, preds = peaks.rows_by_level(cls_scores), peaks.rows_by_level(bbox_preds)
        if hasattr(self.add_cls_pos_inds, 'by_batch'):
            rows, labels, real = self._positives(points, preds, sizes, gt)
            num_pos, positives = mean_count(real.sum()), dict(pos_inds=rows, pos_labels=labels, pos_mask=real)
        else:
            own_rows, own_labels = self.add_cls_pos_inds(points, preds, constant(sizes, points), batch_gt_instances)
            num_pos = mean_count(preds.new_tensor(0 if own_rows is None else len(own_rows)))
            positives = dict(pos_inds=own_rows, pos_labels=own_labels)
        scores = logits.float().sigmoid().clamp(self.sigmoid_clamp, 1 - self.sigmoid_clamp)

        pos = distances.amax(1) >= 0
        weight = pos.to(preds.dtype)
        if self.soft_weight_on_reg:
            weight = weight * heat.amax(1)
        distances = torch.where(pos[:, None], distances, preds.detach())  # finite, and no loss, off the positives
        boxes, targets = self.bbox_coder.decode(points, preds), self.bbox_coder.decode(points, distances)
        return dict(
            loss_cls=self.loss_cls(scores, heat, avg_factor=num_pos, **positives),
            loss_bbox=self.loss_bbox(boxes, targets, weight=weight, avg_factor=mean_count(weight.sum())),
        )

    # ----------------------------------------------------------------------------------------------- targets

    @torch.no_grad()
    def _targets(self, priors: Priors, gt: PaddedGT) -> tuple[Tensor, Tensor]:
        """Heat ``(N, C)`` and distances in strides ``(N, 4)``, negative where there is no box."""
        points, sizes = priors.boxes[0], priors.level_sizes
        if len(sizes) != len(self.regress_ranges):
            raise UserValueError(f'{len(sizes)} levels, but {len(self.regress_ranges)} regress_ranges')
        ranges, strides = per_level(self.regress_ranges, sizes, points), per_level(self.strides, sizes, points)
        if hasattr(self._get_targets_single, 'by_batch'):
            heat, distances = self._match(points, ranges, strides, gt)
        else:
            single = self._get_targets_single
            images = [single(image, points, regress_ranges=ranges, strides=strides) for image in gt.instances]
            heat, distances = (torch.stack(column) for column in zip(*images))
        by_level = joints.point_target_lists([heat, distances], sizes)
        return torch.cat(by_level[0]), torch.cat(by_level[1])

    def _match(self, points: Tensor, ranges: Tensor, strides: Tensor, gt: PaddedGT) -> tuple[Tensor, Tensor]:
        """Heat ``(B, P, C)`` and distances in strides ``(B, P, 4)``."""
        (x, y), (low, high) = points.unbind(-1), ranges.unbind(-1)  # (P,)
        batch, num_points = len(gt.mask), len(points)
        heat = points.new_zeros(batch, self.num_classes, num_points)
        match = BestMatch(points.new_empty(batch, num_points), start=-torch.inf)
        for part in gt.chunks(num_points, matrices=8):
            real = gt.mask[:, part, None]
            x1, y1, x2, y2 = gt.boxes[:, part, :, None].unbind(2)  # (B, g, 1)
            inside = torch.minimum(torch.minimum(x - x1, x2 - x), torch.minimum(y - y1, y2 - y)) > 0  # (B, g, P)
            center_x, center_y = (x1 + x2) / 2, (y1 + y2) / 2
            # From the middle of the cell in which the centre lies.
            from_x, from_y = (
                place - ((center / strides).trunc() * strides + strides / 2)
                for place, center in ((x, center_x), (y, center_y))
            )
            near = (from_x.abs() <= strides) & (from_y.abs() <= strides)
            half_diagonal = ((x2 - x1).square() + (y2 - y1).square()).sqrt() / 2
            fits = inside & near & (half_diagonal >= low) & (half_diagonal <= high) & real
            distance = (x - center_x).square() + (y - center_y).square()
            distance = distance.masked_fill((from_x == 0) & (from_y == 0), 0)
            radius = (self.delta**2 * 2 * (x2 - x1) * (y2 - y1)).clamp(min=self.hm_min_radius**2)
            distance = distance / radius
            match.update(torch.where(fits, -distance, -torch.inf), part)
            self._heat(heat, distance.masked_fill(~real, torch.inf), gt.take(part))
        boxes, _ = gt.gather(match.gt_inds)
        distances = self.bbox_coder.encode(points.expand(batch, -1, -1), boxes) / strides[:, None]
        distances = torch.where((match.score > -torch.inf)[..., None], distances, -INF)
        return heat.transpose(1, 2), distances

    def _heat(self, heat: Tensor, distance: Tensor, gt: PaddedGT) -> None:
        """Raise ``heat (B, C, P)`` to that of objects whose weighted distances are ``(B, G, P)``."""
        if hasattr(self._create_heatmaps_from_dist, 'by_batch'):
            values = (-distance).exp()
            raise_by_class(heat, values.masked_fill(values < FAINT, 0), gt.labels)
            return
        for image, away, labels, real in zip(heat, distance, gt.labels, gt.mask):
            if real.any():
                own = self._create_heatmaps_from_dist(away[real].t(), labels[real])
                torch.maximum(image, own.t(), out=image)

    @by_batch
    def get_targets(self, points: list[Tensor], batch_gt_instances: InstanceList) -> tuple[Tensor, Tensor]:
        """Heat ``(N, C)`` and distances in strides ``(N, 4)`` of points ``[(P_level, 2)]``; negative without a box."""
        sizes = [len(level) for level in points]
        priors = Priors(torch.cat(points)[None], torch.ones_like(points[0][None, :, 0], dtype=torch.bool), sizes)
        return self._targets(priors, PaddedGT.from_instances(batch_gt_instances))

    @by_batch
    def _get_targets_single(
        self, gt_instances: InstanceData, points: Tensor, regress_ranges: Tensor, strides: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Heat ``(P, C)`` and distances in strides ``(P, 4)`` of one image."""
        heat, distances = self._match(points, regress_ranges, strides, PaddedGT.from_instances([gt_instances]))
        return heat[0], distances[0]

    @by_batch
    def _create_heatmaps_from_dist(self, weighted_dist: Tensor, cls_labels: Tensor) -> Tensor:
        """Heat ``(P, C)`` of objects whose weighted distances are ``(P, G)``."""
        values = (-weighted_dist.t()[None]).exp()
        heat = weighted_dist.new_zeros(1, self.num_classes, len(weighted_dist))
        raise_by_class(heat, values.masked_fill(values < FAINT, 0), cls_labels[None])
        return heat[0].t()

    # --------------------------------------------------------------------------------- positives of the classes

    def _positives(
        self, points: Tensor, preds: Tensor, sizes: Sequence[tuple[int, int]], gt: PaddedGT
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates ``(M * L * K,)``: their rows among the N points, their classes, and which are positives."""
        if hasattr(self._get_center3x3_region_index_targets, 'by_batch'):
            cells = self._center_cells(sizes, gt)
            real = gt.mask.flatten()[:, None, None]
            labels, on_level, rows, distances, valid = (value.flatten(0, 1) for value in cells)
            on_level, valid = on_level & real[..., 0], valid & real
        else:
            shapes = constant(sizes, points)
            cells = self._get_center3x3_region_index_targets(list(gt.instances), shapes)
            labels, on_level, rows, distances, valid = cells
        rows = torch.where(valid, rows, 0)
        shape, flat = rows.shape, rows.flatten()
        with torch.no_grad():
            decode = lambda values: self.bbox_coder.decode(points[flat], values)
            losses = self.loss_bbox(
                decode(preds[flat]), decode(distances.reshape(-1, 4).clamp(min=0)), reduction_override='none'
            )
            losses = losses.reshape(shape) / getattr(self.loss_bbox, 'loss_weight', 1)
            losses = torch.where(valid, losses, INF)
            center = torch.arange(shape[-1], device=rows.device) == shape[-1] // 2
            losses = losses.masked_fill(on_level[..., None] & center, 0).flatten(1)  # (M, L * K)
            rank = min(self.more_pos_topk, losses.shape[1])
            limit = losses.topk(rank, largest=False).values[:, -1:].clamp(max=self.more_pos_thresh)
            positive = losses < limit
        return flat, labels[:, None].expand_as(positive).flatten(), positive.flatten()

    def _center_cells(self, sizes: Sequence[tuple[int, int]], gt: PaddedGT) -> tuple[Tensor, ...]:
        """The 3 x 3 cells around the centre of each object on each level.

        Returns:
            Classes ``(B, G)``; whether the level is the object's ``(B, G, L)``; the cells' rows among the N points
            ``(B, G, L, K)``; distances in strides ``(B, G, L, K, 4)``; which cells lie in the map and in the box.
        """
        batch, boxes = len(gt.mask), gt.boxes[:, :, None]  # (B, G, 1, 4)
        areas = [height * width for height, width in sizes]
        begins = [batch * sum(areas[:i]) for i in range(len(areas))]
        strides = constant([[stride] for stride in self.strides], boxes)  # (L, 1)
        low, high = constant(self.regress_ranges, boxes).unbind(-1)  # (L,)
        cell = ((boxes[..., :2] + boxes[..., 2:]) / 2 / strides).long()  # (B, G, L, 2)
        middle = cell * strides + strides / 2
        distances = torch.cat([middle - boxes[..., :2], boxes[..., 2:] - middle], -1)  # (B, G, L, 4)
        half_diagonal = (boxes[..., 2:] - boxes[..., :2]).square().sum(-1).sqrt() / 2
        on_level = (half_diagonal >= low) & (half_diagonal <= high) & (distances.amin(-1) >= 0)

        step = constant([[x, y] for y in (-1, 0, 1) for x in (-1, 0, 1)], boxes)  # (K, 2)
        x, y = (cell[..., None, :] + step.long()).unbind(-1)  # (B, G, L, K)
        heights, widths, areas, begins = (
            constant(values, cell)[:, None] for values in (*zip(*sizes), areas, begins)
        )  # (L, 1)
        image = torch.arange(batch, device=cell.device)[:, None, None, None]
        rows = begins + image * areas + y * widths + x
        distances = (distances / strides)[..., None, :] + torch.cat([step, -step], -1)  # (B, G, L, K, 4)
        valid = (x >= 0) & (x < widths) & (y >= 0) & (y < heights) & (distances.amin(-1) >= 0)
        return gt.labels, on_level, rows, distances, valid

    @by_batch
    def add_cls_pos_inds(
        self,
        flatten_points: Tensor,
        flatten_bbox_preds: Tensor,
        featmap_sizes: Tensor,
        batch_gt_instances: InstanceList,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Rows among the N points and classes of the positives; None where there is no object.

        Args:
            flatten_points, flatten_bbox_preds: ``(N, 2)``, and ``(N, 4)`` in strides.
            featmap_sizes: ``(L, 2)`` heights and widths.
        """
        gt = PaddedGT.from_instances(batch_gt_instances)
        if not any(gt.counts):
            return None, None
        sizes = [(int(height), int(width)) for height, width in featmap_sizes]
        rows, labels, positive = self._positives(flatten_points, flatten_bbox_preds, sizes, gt)
        return rows[positive], labels[positive]

    @by_batch
    def _get_center3x3_region_index_targets(
        self, bacth_gt_instances: InstanceList, shapes_per_level: Tensor
    ) -> tuple[Tensor, ...]:
        """For the M objects of all images: classes ``(M,)``, whether a level is the object's ``(M, L)``, rows among the
        N points ``(M, L, K)``, distances in strides ``(M, L, K, 4)``, and which cells lie in the map and in the box."""
        gt = PaddedGT.from_instances(bacth_gt_instances)
        sizes = [(int(height), int(width)) for height, width in shapes_per_level]
        return tuple(value[gt.mask] for value in self._center_cells(sizes, gt))
