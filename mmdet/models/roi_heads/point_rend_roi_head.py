"""Masks refined at points (PointRend, arXiv:1912.08193). Letters: K regions, P points of each, C classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import RoISamples, by_batch, of_label, widened
from mmdet.models.task_modules.joints import as_samples
from mmdet.ops.bilinear import bilinear_bags
from mmdet.ops.point_sample import point_sample, rel_roi_point_to_rel_img_point
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList

from .standard_roi_head import StandardRoIHead


@MODELS.register_module()
class PointRendRoIHead(StandardRoIHead):
    """Mask R-CNN's second stage with coarse masks, which ``point_head`` corrects where they are least certain."""

    def __init__(self, point_head: ConfigType, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not (self.with_bbox and self.with_mask):
            raise UserValueError('PointRendRoIHead needs bbox_head and mask_head')
        self.init_point_head(point_head)

    def init_point_head(self, point_head: ConfigType) -> None:
        """Make the head for points."""
        self.point_head = MODELS.build(point_head)

    @by_batch
    def mask_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: RoISamples | Sequence,
        bbox_feats: Tensor | None,
        batch_gt_instances: InstanceList,
    ) -> dict:
        """As of any second stage, with ``loss_point``."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        outs = super().mask_loss(x, samples, bbox_feats, batch_gt_instances)
        found = self._mask_point_loss(x, samples, outs['mask_preds'], batch_gt_instances)
        outs['loss_mask'].update(loss_point=found['loss_point'])
        return outs

    @by_batch
    def _mask_point_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: RoISamples | Sequence,
        mask_preds: Tensor,
        batch_gt_instances: InstanceList,
    ) -> dict:
        """``loss_point`` of positives with the coarse masks ``mask_preds (K, C, h, w)``."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        chosen, head = samples.positives, self.point_head
        points = head.get_roi_rel_points_train(mask_preds, chosen.rows('gt_labels')[0], cfg=self.train_cfg)
        fine = self._get_fine_grained_point_feats(x, chosen.rois, points)
        pred = head(fine, point_sample(mask_preds, points))
        return head.loss_and_target(pred, points, samples, batch_gt_instances, self.train_cfg)

    def _get_fine_grained_point_feats(self, x: tuple[Tensor, ...], rois: Tensor, rel_roi_points: Tensor) -> Tensor:
        """Features ``(K, c, P)`` of the levels that masks are pooled from, at points ``(K, P, 2)`` of RoIs."""
        points, feats = rel_roi_point_to_rel_img_point(rois, rel_roi_points, (1, 1)), []  # in pixels
        image = rois[:, 0].long().repeat_interleave(points.shape[1], output_size=points.shape[0] * points.shape[1])
        for level, stride in zip(x, self.mask_roi_extractor.featmap_strides):
            at = points.flatten(0, 1) / stride - 0.5
            sampled = bilinear_bags(widened(level), image, at[:, :1], at[:, 1:]).to(level.dtype)
            feats.append(sampled.unflatten(0, points.shape[:2]))
        return torch.cat(feats, -1).transpose(1, 2)

    def _mask_point_forward_test(
        self, x: tuple[Tensor, ...], rois: Tensor, label_preds: Tensor, mask_preds: Tensor
    ) -> Tensor:
        """Masks ``(K, C, h, w)`` grown step by step, and predicted anew where they are least certain (Sec. 3.1).

        Only the mask of the predicted class is refined; it stands, in the same memory, for those of all classes.
        """
        cfg, head = self.test_cfg, self.point_head
        refined = of_label(mask_preds, label_preds)[:, None]  # (K, 1, h, w)
        labels = torch.zeros_like(label_preds)
        for step in range(cfg.subdivision_steps):
            refined = F.interpolate(refined, scale_factor=cfg.scale_factor, mode='bilinear', align_corners=False)
            # A mask of which the next step predicts every cell needs nothing before.
            cells = cfg.scale_factor**2 * refined.shape[2] * refined.shape[3]
            if cfg.subdivision_num_points >= cells and step < cfg.subdivision_steps - 1:
                continue
            index, points = head.get_roi_rel_points_test(refined, labels, cfg=cfg)
            fine = self._get_fine_grained_point_feats(x, rois, points)
            pred = of_label(head(fine, point_sample(mask_preds, points)), label_preds)  # (K, P)
            refined = refined.flatten(1).scatter(1, index, pred.to(refined.dtype)).view_as(refined)
        return widened(refined).expand(-1, mask_preds.shape[1], -1, -1)

    def _predicted_masks(
        self, x: tuple[Tensor, ...], rois: Tensor, results_list: InstanceList, **context
    ) -> tuple[Tensor, bool]:
        labels = torch.cat([results.labels for results in results_list])
        return self._mask_point_forward_test(x, rois, labels, self._mask_forward(x, rois)['mask_preds']), False
