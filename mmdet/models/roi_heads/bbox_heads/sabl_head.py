"""Boxes side by side (SABL, arXiv:1912.04260).

Letters: K regions, c channels, C classes, S buckets of a side; sides come in the order left, right, top, bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import Proposals, RoISamples, by_batch, image_shapes, multi_apply
from mmdet.models.task_modules.joints import as_samples
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .bbox_head import BBoxHead, image_rows

Pair = tuple[Tensor, Tensor]


@MODELS.register_module()
class SABLHead(BBoxHead):
    """Each side of a box by the bucket it lies in and its place there, from features of its own (Sec. 3.1 and 3.2).

    Args:
        reg_feat_up_ratio: How many features there are along a side for each of the region.
        reg_pre_num, reg_post_num: Convolutions before and after the features are pooled into a line along each axis.
        cls_out_channels, reg_offset_out_channels, reg_cls_out_channels: Widths of the fully connected layers for
            classes, offsets and buckets.
    """

    def __init__(
        self,
        num_classes: int,
        cls_in_channels: int = 256,
        reg_in_channels: int = 256,
        roi_feat_size: int = 7,
        reg_feat_up_ratio: int = 2,
        reg_pre_kernel: int = 3,
        reg_post_kernel: int = 3,
        reg_pre_num: int = 2,
        reg_post_num: int = 1,
        cls_out_channels: int = 1024,
        reg_offset_out_channels: int = 256,
        reg_cls_out_channels: int = 256,
        num_cls_fcs: int = 1,
        num_reg_fcs: int = 0,
        reg_class_agnostic: bool = True,
        norm_cfg: OptConfigType = None,
        bbox_coder: ConfigType = dict(type='BucketingBBoxCoder', num_buckets=14, scale_factor=1.7),
        loss_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_bbox_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox_reg: ConfigType = dict(type='SmoothL1Loss', beta=0.1, loss_weight=1.0),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        BaseModule.__init__(self, init_cfg=init_cfg)
        if not reg_class_agnostic:
            raise UserValueError('SABLHead has one box for all classes: reg_class_agnostic must be True')
        self.num_classes, self.reg_class_agnostic, self.norm_cfg = num_classes, reg_class_agnostic, norm_cfg
        self.with_cls = self.with_reg = True
        self.with_avg_pool = self.reg_decoded_bbox = False
        self.predict_box_type = 'hbox'
        self.cls_in_channels, self.reg_in_channels, self.roi_feat_size = cls_in_channels, reg_in_channels, roi_feat_size
        self.reg_feat_up_ratio, self.up_reg_feat_size = reg_feat_up_ratio, roi_feat_size * reg_feat_up_ratio
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        self.num_buckets, self.side_num = self.bbox_coder.num_buckets, self.bbox_coder.side_num
        if self.side_num != (self.up_reg_feat_size + 1) // 2:
            raise UserValueError(
                f'{self.up_reg_feat_size} features along a side predict as many buckets, not {self.num_buckets}'
            )
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox_cls, self.loss_bbox_reg = MODELS.build(loss_bbox_cls), MODELS.build(loss_bbox_reg)
        self.cls_fcs = self._add_fc_branch(num_cls_fcs, cls_in_channels, roi_feat_size, cls_out_channels)
        line = (reg_in_channels, reg_in_channels)
        if reg_feat_up_ratio > 1:
            self.upsample_x = nn.ConvTranspose1d(*line, reg_feat_up_ratio, stride=reg_feat_up_ratio)
            self.upsample_y = nn.ConvTranspose1d(*line, reg_feat_up_ratio, stride=reg_feat_up_ratio)
        pre, post, margin = reg_pre_kernel, reg_post_kernel, reg_post_kernel // 2
        convs = lambda count, kernel, padding: nn.ModuleList(
            ConvModule(*line, kernel, padding=padding, norm_cfg=norm_cfg) for _ in range(count)
        )
        self.reg_pre_convs = convs(reg_pre_num, pre, pre // 2)
        self.reg_post_conv_xs = convs(reg_post_num, (1, post), (0, margin))
        self.reg_post_conv_ys = convs(reg_post_num, (post, 1), (margin, 0))
        self.reg_conv_att_x = nn.Conv2d(reg_in_channels, 1, 1)
        self.reg_conv_att_y = nn.Conv2d(reg_in_channels, 1, 1)
        width = cls_out_channels if num_cls_fcs else cls_in_channels * roi_feat_size**2
        self.fc_cls = nn.Linear(width, self.cls_channels)
        self.relu = nn.ReLU(inplace=True)
        self.reg_cls_fcs = self._add_fc_branch(num_reg_fcs, reg_in_channels, 1, reg_cls_out_channels)
        self.reg_offset_fcs = self._add_fc_branch(num_reg_fcs, reg_in_channels, 1, reg_offset_out_channels)
        self.fc_reg_cls = nn.Linear(reg_cls_out_channels if num_reg_fcs else reg_in_channels, 1)
        self.fc_reg_offset = nn.Linear(reg_offset_out_channels if num_reg_fcs else reg_in_channels, 1)
        if init_cfg is None:
            stds = dict(reg_conv_att_x=0.01, reg_conv_att_y=0.01, fc_reg_cls=0.01, fc_cls=0.01, fc_reg_offset=0.001)
            normal = [dict(type='Normal', name=name, std=std) for name, std in stds.items()]
            self.init_cfg = [dict(type='Xavier', layer='Linear', distribution='uniform', override=normal)]
            if reg_feat_up_ratio > 1:
                names = [dict(name='upsample_x'), dict(name='upsample_y')]
                self.init_cfg.append(dict(type='Kaiming', distribution='normal', override=names))

    def _add_fc_branch(
        self, num_branch_fcs: int, in_channels: int, roi_feat_size: int, fc_out_channels: int
    ) -> nn.ModuleList:
        widths = [in_channels * roi_feat_size**2] + [fc_out_channels] * num_branch_fcs
        return nn.ModuleList(nn.Linear(first, second) for first, second in zip(widths, widths[1:]))

    def forward(self, x: Tensor) -> tuple[Tensor, Pair]:  # type: ignore[override]  # a pair for boxes
        """Class logits ``(K, C + 1)``, and logits and offsets of the buckets ``(K, 4 * S)``."""
        boxes = self.reg_forward(x)
        return self.cls_forward(x), boxes

    def cls_forward(self, cls_x: Tensor) -> Tensor:
        """Class logits."""
        return self.fc_cls(self._through(self.cls_fcs, cls_x.flatten(1)))

    def _through(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        for layer in layers:
            x = self.relu(layer(x))
        return x

    def reg_forward(self, reg_x: Tensor) -> Pair:
        """Logits and offsets of the buckets ``(K, 4 * S)``."""
        lines = self.side_aware_feature_extractor(reg_x)
        sides = [side for line in lines for side in self.side_aware_split(line)]
        preds = [self.reg_pred(side, self.reg_offset_fcs, self.reg_cls_fcs) for side in sides]
        offsets, logits = (torch.cat([pred.view(-1, self.side_num) for pred in column], 1) for column in zip(*preds))
        return logits, offsets

    def side_aware_feature_extractor(self, reg_x: Tensor) -> Pair:
        """Features ``(K, columns, c)`` and ``(K, rows, c)`` along both axes of ``(K, c, h, w)``."""
        for conv in self.reg_pre_convs:
            reg_x = conv(reg_x)
        along_x, along_y = self.attention_pool(reg_x)
        along_x, along_y = along_x[:, :, None], along_y[..., None]
        for conv_x, conv_y in zip(self.reg_post_conv_xs, self.reg_post_conv_ys):
            along_x, along_y = conv_x(along_x), conv_y(along_y)
        along_x, along_y = along_x[:, :, 0], along_y[..., 0]
        if self.reg_feat_up_ratio > 1:
            along_x, along_y = self.relu(self.upsample_x(along_x)), self.relu(self.upsample_y(along_y))
        return along_x.transpose(1, 2), along_y.transpose(1, 2)

    def attention_pool(self, reg_x: Tensor) -> Pair:
        """``(K, c, w)`` and ``(K, c, h)``: means over rows and over columns, weighted by attention (Sec. 3.1)."""
        means = []
        for conv, dim in ((self.reg_conv_att_x, 2), (self.reg_conv_att_y, 3)):
            attention = conv(reg_x).sigmoid()
            means.append((reg_x * (attention / attention.sum(dim, keepdim=True))).sum(dim))
        return means[0], means[1]

    def side_aware_split(self, feat: Tensor) -> Pair:
        """Halves ``(K * S, c)`` of a line ``(K, n, c)``, each from its outer end; an odd middle is in both."""
        first, last = (side[:, : self.side_num].flatten(0, 1) for side in (feat, feat.flip(1)))
        return first, last

    def reg_pred(self, x: Tensor, offset_fcs: nn.ModuleList, cls_fcs: nn.ModuleList) -> Pair:
        """Offset and logit ``(K * S, 1)`` of each bucket's features ``(K * S, c)``."""
        return self.fc_reg_offset(self._through(offset_fcs, x)), self.fc_reg_cls(self._through(cls_fcs, x))

    # -------------------------------------------------------------------------------------------------- training

    @by_batch
    def get_targets(  # type: ignore[override]  # pairs for boxes
        self, sampling_results: RoISamples | Sequence, rcnn_train_cfg: ConfigDict, concat: bool = True
    ) -> tuple:
        """Labels ``(K,)``, their weights, targets of buckets and offsets ``(K, 4 * S)`` and weights of both."""
        own = not (hasattr(self.bucket_target, 'by_batch') and hasattr(self._bucket_target_single, 'by_batch'))
        if own or not concat:
            names = 'pos_priors', 'neg_priors', 'pos_gt_bboxes', 'pos_gt_labels'
            lists = [[getattr(result, name) for result in sampling_results] for name in names]
            targets = self.bucket_target(*lists, rcnn_train_cfg, concat=concat)
        else:
            samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
            boxes, gt_boxes, gt_labels, pos, valid = samples.rows('boxes', 'gt_boxes', 'gt_labels', 'pos', 'valid')
            targets = self._buckets(boxes, gt_boxes, gt_labels, pos, valid, rcnn_train_cfg)
        labels, weights, buckets, bucket_weights, offsets, offset_weights = targets
        return labels, weights, (buckets, offsets), (bucket_weights, offset_weights)

    def _buckets(
        self, boxes: Tensor, gt_boxes: Tensor, gt_labels: Tensor, pos: Tensor, valid: Tensor, cfg: ConfigDict
    ) -> tuple[Tensor, ...]:
        each = pos[:, None]
        offsets, offset_weights, buckets, bucket_weights = self.bbox_coder.encode(
            boxes, torch.where(each, gt_boxes, boxes)
        )
        labels, weights = self._class_targets(gt_labels, pos, valid.to(boxes.dtype), cfg)
        of_sides = buckets, bucket_weights, offsets, offset_weights
        return labels, weights, *(torch.where(each, value, 0.0) for value in of_sides)

    @by_batch
    def bucket_target(
        self,
        pos_proposals_list: list[Tensor],
        neg_proposals_list: list[Tensor],
        pos_gt_bboxes_list: list[Tensor],
        pos_gt_labels_list: list[Tensor],
        rcnn_train_cfg: ConfigDict,
        concat: bool = True,
    ) -> tuple:
        """Labels, targets of buckets and of offsets, each followed by its weights: joined, or lists by image."""
        lists = pos_proposals_list, neg_proposals_list, pos_gt_bboxes_list, pos_gt_labels_list
        columns = multi_apply(self._bucket_target_single, *lists, cfg=rcnn_train_cfg)
        return tuple(torch.cat(column) for column in columns) if concat else tuple(columns)

    @by_batch
    def _bucket_target_single(
        self,
        pos_proposals: Tensor,
        neg_proposals: Tensor,
        pos_gt_bboxes: Tensor,
        pos_gt_labels: Tensor,
        cfg: ConfigDict,
    ) -> tuple[Tensor, ...]:
        """What :meth:`bucket_target` has of one image, positives first."""
        return self._buckets(*image_rows(pos_proposals, neg_proposals, pos_gt_bboxes, pos_gt_labels), cfg)

    def loss(  # type: ignore[override]  # pairs for boxes
        self,
        cls_score: Tensor | None,
        bbox_pred: Pair | None,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Pair,
        bbox_weights: Pair,
        reduction_override: str | None = None,
    ) -> dict:
        """``loss_cls``, ``acc``, ``loss_bbox_cls`` and ``loss_bbox_reg``; regions of label weight 0 do not count."""
        targets: Any = bbox_targets  # which are not looked at without predictions
        weights: Any = bbox_weights
        losses = super().loss(cls_score, None, rois, labels, label_weights, targets, weights, reduction_override)
        if bbox_pred is None:
            return losses
        count = (label_weights > 0).sum().clamp(min=1).float()
        kinds = (
            ('loss_bbox_cls', self.loss_bbox_cls, lambda value: value.view(-1, self.side_num), count * 4),
            ('loss_bbox_reg', self.loss_bbox_reg, lambda value: value, count),
        )
        for (name, criterion, rows, total), *values in zip(kinds, bbox_pred, bbox_targets, bbox_weights):
            pred, target, weight = map(rows, values)
            losses[name] = criterion(pred, target, weight, avg_factor=total, reduction_override=reduction_override)
        return losses

    @by_batch
    @torch.no_grad()
    def refine_bboxes(
        self, sampling_results: RoISamples | Sequence, bbox_results: dict, batch_img_metas: list[dict]
    ) -> Proposals:
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        pair = tuple(samples.unpack(value) for value in bbox_results['bbox_pred'])
        boxes, _ = self.bbox_coder.decode(samples.boxes, pair, max_shape=image_shapes(batch_img_metas))
        return Proposals(get_box_tensor(boxes), samples.valid & ~samples.is_gt, [boxes.shape[1]])

    def regress_by_class(  # type: ignore[override]  # a pair for boxes
        self, rois: Tensor, label: Tensor, bbox_pred: Pair, img_meta: dict | None
    ) -> Tensor:
        """Boxes of regions ``(k, 4)`` or ``(k, 5)``, which no class changes; of the latter with the image before."""
        shape = None if img_meta is None else tuple(img_meta['img_shape'][:2])
        boxes, _ = self.bbox_coder.decode(rois[:, -4:], bbox_pred, shape)
        return torch.cat([rois[:, :-4], get_box_tensor(boxes)], 1)

    # ------------------------------------------------------------------------------------------------ prediction

    def bbox_pred_split(self, bbox_pred: Pair, num_proposals_per_img: Sequence[int]) -> tuple[Pair, ...]:
        """The pairs of each image."""
        return tuple(zip(*(value.split(list(num_proposals_per_img)) for value in bbox_pred)))

    def _decoded(self, boxes: Tensor, bbox_pred: Any, shapes: Any) -> tuple[Tensor, Tensor | None]:
        return self.bbox_coder.decode(boxes, bbox_pred, max_shape=shapes)
