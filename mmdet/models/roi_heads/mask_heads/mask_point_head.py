"""Masks at single points (PointRend, arXiv:1912.08193). Letters: K regions, P points of each, C classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    RoISamples,
    by_batch,
    get_uncertain_point_coords_with_randomness,
    get_uncertainty,
    mask_values,
)
from mmdet.models.task_modules.joints import as_samples
from mmdet.ops.point_sample import rel_roi_point_to_rel_img_point
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, MultiConfig, OptConfigType


@MODELS.register_module()
class MaskPointHead(BaseModule):
    """The same layers for each point, over fine features and the coarse masks there (Sec. 3.3).

    Args:
        coarse_pred_each_layer: Whether each layer sees the coarse masks, not the first alone.
    """

    def __init__(
        self,
        num_classes: int,
        num_fcs: int = 3,
        in_channels: int = 256,
        fc_channels: int = 256,
        class_agnostic: bool = False,
        coarse_pred_each_layer: bool = True,
        conv_cfg: ConfigType = dict(type='Conv1d'),
        norm_cfg: OptConfigType = None,
        act_cfg: ConfigType = dict(type='ReLU'),
        loss_point: ConfigType = dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        init_cfg: MultiConfig = dict(type='Normal', std=0.001, override=dict(name='fc_logits')),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes, self.num_fcs, self.in_channels, self.fc_channels = (
            num_classes,
            num_fcs,
            in_channels,
            fc_channels,
        )
        self.class_agnostic, self.coarse_pred_each_layer = class_agnostic, coarse_pred_each_layer
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        self.loss_point = MODELS.build(loss_point)
        later = fc_channels + (num_classes if coarse_pred_each_layer else 0)
        widths = [in_channels + num_classes] + [later] * num_fcs
        layer = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.fcs = nn.ModuleList(ConvModule(width, fc_channels, 1, **layer) for width in widths[:-1])
        self.fc_logits = nn.Conv1d(widths[-1], 1 if class_agnostic else num_classes, 1)

    def forward(self, fine_grained_feats: Tensor, coarse_feats: Tensor) -> Tensor:
        """Logits ``(K, C, P)`` of features ``(K, c, P)`` and coarse logits ``(K, C, P)``."""
        x = torch.cat([fine_grained_feats, coarse_feats], 1)
        for fc in self.fcs:
            x = fc(x)
            if self.coarse_pred_each_layer:
                x = torch.cat([x, coarse_feats], 1)
        return self.fc_logits(x)

    @by_batch
    def get_targets(
        self,
        rois: Tensor,
        rel_roi_points: Tensor,
        sampling_results: RoISamples | Sequence,
        batch_gt_instances: InstanceList,
        cfg: ConfigDict,
    ) -> Tensor:
        """Ground truths interpolated at the points of the positives, ``(K, P)``.

        Args:
            rois: ``(K, 5)`` the positives.
            rel_roi_points: ``(K, P, 2)`` x and y from 0 to 1 across the region.
        """
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        if not hasattr(self._get_targets_single, 'by_batch'):
            counts = [len(result.pos_priors) for result in samples]
            images = zip(rois.split(counts), rel_roi_points.split(counts), samples, batch_gt_instances)
            single = self._get_targets_single
            return torch.cat([single(roi, at, r.pos_assigned_gt_inds, gt, cfg) for roi, at, r, gt in images])
        return _targets(rois, rel_roi_points, samples.positives.rows('gt_inds')[0], batch_gt_instances)

    @by_batch
    def _get_targets_single(
        self,
        rois: Tensor,
        rel_roi_points: Tensor,
        pos_assigned_gt_inds: Tensor,
        gt_instances: InstanceData,
        cfg: ConfigDict,
    ) -> Tensor:
        """Targets of one image."""
        rois = torch.cat([torch.zeros_like(rois[:, :1]), rois[:, -4:]], 1)
        return _targets(rois, rel_roi_points, pos_assigned_gt_inds, [gt_instances])

    @by_batch
    def loss_and_target(
        self,
        point_pred: Tensor,
        rel_roi_points: Tensor,
        sampling_results: RoISamples | Sequence,
        batch_gt_instances: InstanceList,
        cfg: ConfigDict,
    ) -> dict:
        """``loss_point`` of logits ``(K, C, P)``, and ``point_target``."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        targets = self.get_targets(samples.positives.rois, rel_roi_points, samples, batch_gt_instances, cfg)
        labels, used = samples.positives.rows('gt_labels', 'pos')
        if self.class_agnostic:
            labels = torch.zeros_like(labels)
        if len(point_pred) == 0:
            return dict(loss_point=point_pred.sum(), point_target=targets)
        return dict(loss_point=self.loss_point(point_pred, targets, labels, sample_weight=used), point_target=targets)

    def get_roi_rel_points_train(self, mask_preds: Tensor, labels: Tensor, cfg: ConfigDict) -> Tensor:
        """Points ``(K, P, 2)`` to train masks ``(K, C, h, w)`` at, from 0 to 1 across the region (Sec. 3.1)."""
        return get_uncertain_point_coords_with_randomness(
            mask_preds, labels, cfg.num_points, cfg.oversample_ratio, cfg.importance_sample_ratio
        )

    def get_roi_rel_points_test(
        self, mask_preds: Tensor, label_preds: Tensor, cfg: ConfigDict
    ) -> tuple[Tensor, Tensor]:
        """The least certain cells of masks ``(K, C, h, w)`` or ``(K, 1, h, w)``.

        Returns:
            Their numbers ``(K, P)`` row by row, and their middles ``(K, P, 2)`` from 0 to 1 across the region.
        """
        height, width = mask_preds.shape[-2:]
        uncertainty = get_uncertainty(mask_preds, label_preds).flatten(1)
        index = uncertainty.topk(min(cfg.subdivision_num_points, height * width), 1).indices
        x, y = index % width + 0.5, index // width + 0.5
        return index, torch.stack([x / width, y / height], -1)


def _targets(rois: Tensor, rel_roi_points: Tensor, gt_inds: Tensor, batch_gt_instances: InstanceList) -> Tensor:
    points = rel_roi_point_to_rel_img_point(rois, rel_roi_points, (1, 1))  # in pixels
    return mask_values(points, rois[:, 0].long(), gt_inds, [instances.masks for instances in batch_gt_instances])
