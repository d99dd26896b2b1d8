from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet.models.core import RoISamples, by_batch, of_label
from mmdet.models.task_modules.joints import as_samples
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList

from .standard_roi_head import StandardRoIHead


@MODELS.register_module()
class MaskScoringRoIHead(StandardRoIHead):
    """Mask R-CNN's second stage whose scores are multiplied by the predicted IoU of the mask (arXiv:1903.00241)."""

    def __init__(self, mask_iou_head: ConfigType, **kwargs) -> None:
        super().__init__(**kwargs)
        self.mask_iou_head = MODELS.build(mask_iou_head)

    def forward(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList | None = None
    ) -> tuple:
        """The bare outputs: class scores, boxes and, of the first 100 regions, masks and the IoUs of that of the best
        class."""
        results = super().forward(x, rpn_results_list, batch_data_samples)
        if not self.with_mask:
            return results
        rois = bbox2roi([proposals.bboxes for proposals in rpn_results_list])[:100]
        feats, labels = self._mask_forward(x, rois)['mask_feats'], results[0][:100, :-1].argmax(1)
        return *results, self.mask_iou_head(feats, of_label(results[-1], labels))

    @by_batch
    def mask_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: RoISamples | Sequence,
        bbox_feats: Tensor | None,
        batch_gt_instances: InstanceList,
    ) -> dict:
        """As of any second stage, with ``loss_mask_iou``."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        outs = super().mask_loss(x, samples, bbox_feats, batch_gt_instances)
        labels = samples.positives.rows('gt_labels')[0]
        preds = of_label(outs['mask_preds'], labels)
        ious = of_label(self.mask_iou_head(outs['mask_feats'], preds), labels)
        found = self.mask_iou_head.loss_and_target(
            ious, preds, outs['mask_targets'], samples, batch_gt_instances, self.train_cfg
        )
        outs['loss_mask'].update(loss_mask_iou=found['loss_mask_iou'])
        return outs

    def _predicted_masks(
        self, x: tuple[Tensor, ...], rois: Tensor, results_list: InstanceList, **context
    ) -> tuple[Tensor, bool]:
        outs, counts = self._mask_forward(x, rois), [results.labels.shape[0] for results in results_list]
        labels = torch.cat([results.labels for results in results_list])
        ious = self.mask_iou_head(outs['mask_feats'], of_label(outs['mask_preds'], labels))
        self.mask_iou_head.predict_by_feat(ious.split(counts), results_list)
        return outs['mask_preds'], False
