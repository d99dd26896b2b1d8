"""FoveaBox (arXiv:1904.03797). Letters: B images, G ground truths, P points of all levels, C classes, L levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import BestMatch, PaddedGT, Priors, by_batch, flatten_outputs, map_sizes, per_level
from mmdet.models.task_modules.coders import clip_to_middles
from mmdet.ops.deform_conv import DeformConv2d
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS

from . import family_joints, joints
from .anchor_free_head import AnchorFreeHead


class FeatureAlign(BaseModule):
    """A deformable convolution that looks where the box says (Sec. 3.4)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        deform_groups: int = 4,
        init_cfg=dict(
            type='Normal', layer='Conv2d', std=0.1, override=dict(type='Normal', name='conv_adaption', std=0.01)
        ),
    ) -> None:
        super().__init__(init_cfg)
        self.conv_offset = nn.Conv2d(4, deform_groups * kernel_size * kernel_size * 2, 1, bias=False)
        self.conv_adaption = DeformConv2d(
            in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, deform_groups=deform_groups
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, shape: Tensor) -> Tensor:
        """Features ``(B, channels, H, W)`` of boxes ``(B, 4, H, W)``, given as distances to their sides."""
        return self.relu(self.conv_adaption(x, self.conv_offset(shape)))


@MODELS.register_module()
class FoveaHead(AnchorFreeHead):
    """Positives are the cells in the middle of a box, on every level whose range has its size.

    Args:
        base_edge_list: Length in pixels by which each level measures its boxes (Eq. 4, z).
        scale_ranges: Least and greatest square root of the area in pixels that each level is trained for (Eq. 1).
        sigma: Part of a box's sides that is its middle, the fovea (Eq. 2).
        with_deform: Whether the classes see features that are aligned by the predicted boxes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        base_edge_list: Sequence[int] = (16, 32, 64, 128, 256),
        scale_ranges: Sequence[tuple[int, int]] = ((8, 32), (16, 64), (32, 128), (64, 256), (128, 512)),
        sigma: float = 0.4,
        with_deform: bool = False,
        deform_groups: int = 4,
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01),
        ),
        **kwargs,
    ) -> None:
        self.base_edge_list, self.scale_ranges, self.sigma = base_edge_list, scale_ranges, sigma
        self.with_deform, self.deform_groups = with_deform, deform_groups
        super().__init__(num_classes, in_channels, init_cfg=init_cfg, **kwargs)

    def _init_layers(self) -> None:
        self._init_reg_convs()
        self.conv_reg = nn.Conv2d(self.feat_channels, 4, 3, padding=1)
        if not self.with_deform:
            self._init_cls_convs()
            self.conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)
            return
        wide = self.feat_channels * 4
        options: dict[str, Any] = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, bias=self.norm_cfg is None)
        self.cls_convs = nn.Sequential(
            ConvModule(self.feat_channels, wide, 3, padding=1, **options), ConvModule(wide, wide, 1, **options)
        )
        self.feature_adaption = FeatureAlign(self.feat_channels, self.feat_channels, 3, self.deform_groups)
        self.conv_cls = nn.Conv2d(wide, self.cls_out_channels, 3, padding=1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits ``(B, C, H, W)`` and logarithms of the distances ``(B, 4, H, W)``."""
        bbox_pred = self.conv_reg(self.reg_convs(x))
        cls_feat = self.feature_adaption(x, bbox_pred.exp()) if self.with_deform else x
        return self.conv_cls(self.cls_convs(cls_feat)), bbox_pred

    def loss_by_feat(
        self, cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        logits, preds = flatten_outputs((cls_scores, self.cls_out_channels), (bbox_preds, 4))
        priors, sizes = self._priors(cls_scores), map_sizes(cls_scores)
        if hasattr(self.get_targets, 'by_batch'):
            labels, boxes = self._targets(priors, sizes, PaddedGT.from_instances(batch_gt_instances))
        else:
            labels, boxes = family_joints.fovea_targets(self, priors, sizes, batch_gt_instances)
        pos = (labels >= 0) & (labels < self.num_classes)
        count = pos.sum()
        weight = pos[..., None].expand_as(preds).to(preds.dtype)
        boxes = torch.where(pos[..., None], boxes, preds.detach())
        level_sizes = priors.level_sizes
        return dict(
            loss_cls=self._loss(self.loss_cls, level_sizes, logits, labels, avg_factor=count + len(labels)),
            loss_bbox=self._loss(
                self.loss_bbox, level_sizes, preds, boxes, weight, avg_factor=count.clamp(min=1).to(preds.dtype)
            ),
        )

    def _targets(self, priors: Priors, sizes: Sequence[tuple[int, int]], gt: PaddedGT) -> tuple[Tensor, Tensor]:
        """Labels ``(B, P)`` and logarithms of the distances by the level's length ``(B, P, 4)``."""
        if hasattr(self._get_targets_single, 'by_batch'):
            return self._match(priors, sizes, gt)
        return family_joints.fovea_targets_of_each_image(self, priors, sizes, gt)

    def _match(self, priors: Priors, sizes: Sequence[tuple[int, int]], gt: PaddedGT) -> tuple[Tensor, Tensor]:
        points, level_sizes = priors.boxes[0], priors.level_sizes
        across = lambda values: per_level(values, level_sizes, points)  # (P,)
        stride = across([s[0] if isinstance(s, (tuple, list)) else s for s in self.strides])
        low, high = across([r[0] for r in self.scale_ranges]), across([r[1] for r in self.scale_ranges])
        last_row, last_column = across([h - 1 for h, _ in sizes]), across([w - 1 for _, w in sizes])
        column, row = ((points[:, i] / stride).floor() for i in (0, 1))

        # Of the boxes that claim a cell the smallest wins, of equal ones the last: the first of the order turned round.
        turned = PaddedGT(gt.boxes.flip(1), gt.labels.flip(1), gt.mask.flip(1), gt.counts)
        match = BestMatch(points.new_empty(len(gt.mask), len(points)), start=-torch.inf)
        for part in turned.chunks(len(points), matrices=6):
            x1, y1, x2, y2 = turned.boxes[:, part, :, None].unbind(2)  # (B, g, 1)
            area = (x2 - x1) * (y2 - y1)
            fits = (area.sqrt() >= low) & (area.sqrt() <= high) & turned.mask[:, part, None]
            for start, stop, cell, last in ((x1, x2, column, last_column), (y1, y2, row, last_row)):
                middle, reach = (start + stop) / 2 / stride, self.sigma * (stop - start) / 2 / stride
                first = (middle - reach - 0.5).ceil().clamp(min=0).minimum(last)
                end = (middle + reach - 0.5).floor().clamp(min=0).minimum(last)
                fits &= (cell >= first) & (cell <= end)
            match.update(torch.where(fits, -area, -torch.inf), part)
        found = match.score > -torch.inf
        boxes, labels = gt.gather(gt.mask.shape[1] - match.index.long())
        x, y = points.unbind(-1)
        sides = torch.stack([x - boxes[..., 0], y - boxes[..., 1], boxes[..., 2] - x, boxes[..., 3] - y], -1)
        distances = (sides / across(self.base_edge_list)[:, None]).clamp(1 / 16, 16).log()
        return torch.where(found, labels, self.num_classes), distances

    @by_batch
    def get_targets(  # type: ignore[override]  # the arguments of 3.x
        self,
        batch_gt_instances: Sequence[InstanceData],
        featmap_sizes: Sequence[tuple[int, int]],
        priors_list: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Labels and targets of all levels, ``(P * B,)`` and ``(P * B, 4)``: level by level, in each image by image."""
        sizes = [len(level) for level in priors_list]
        priors = Priors(torch.cat(list(priors_list))[None], torch.ones(1, sum(sizes), dtype=torch.bool), sizes)
        values = self._targets(priors, featmap_sizes, PaddedGT.from_instances(batch_gt_instances))
        labels, boxes = joints.point_target_lists(values, sizes)
        return torch.cat(labels), torch.cat(boxes)

    @by_batch
    def _get_targets_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        gt_instances: InstanceData,
        featmap_size_list: Sequence[tuple[int, int]],
        priors_list: Sequence[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Labels ``[(H, W)]`` and targets ``[(H, W, 4)]`` of one image by level."""
        sizes = [len(level) for level in priors_list]
        priors = Priors(torch.cat(list(priors_list))[None], torch.ones(1, sum(sizes), dtype=torch.bool), sizes)
        labels, boxes = self._match(priors, featmap_size_list, PaddedGT.from_instances([gt_instances]))
        levels = zip(labels[0].split(sizes), boxes[0].split(sizes), featmap_size_list)
        maps = [(label.view(*size), box.view(*size, 4)) for label, box, size in levels]
        return [label for label, _ in maps], [box for _, box in maps]

    def _decode_boxes(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> Tensor:
        length = per_level(self.base_edge_list, sizes, preds)[:, None]
        if is_fixed_size():
            lengths = length.expand(*preds.shape[:2], 1)
            flat = [values.flatten(0, 1) for values in (priors, preds, lengths)]
            return self._bbox_decode(flat[0], flat[1], flat[2], shapes[0]).unflatten(0, preds.shape[:2])
        return torch.stack([self._bbox_decode(*image) for image in zip(priors, preds, [length] * len(preds), shapes)])

    def _bbox_decode(
        self, priors: Tensor, bbox_pred: Tensor, base_len: int | Tensor, max_shape: Sequence[int]
    ) -> Tensor:
        """xyxy boxes ``(P, 4)`` of one image, clipped to the middles of its outer pixels.

        Args:
            base_len: Length by which a level measures; ``(P, 1)`` where there are several.
        """
        reach = bbox_pred.exp() * base_len
        boxes = torch.cat([priors - reach[:, :2], priors + reach[:, 2:]], 1)
        return clip_to_middles(boxes, max_shape)
