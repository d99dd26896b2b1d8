"""One box head and, for Mask R-CNN, one mask head on the features of each region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import RoISamples, by_batch
from mmdet.models.task_modules.joints import as_samples
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList

from .base_roi_head import BaseRoIHead


@MODELS.register_module()
class StandardRoIHead(BaseRoIHead):
    """Faster R-CNN's and Mask R-CNN's second stage.

    Joints that research code overrides: :meth:`bbox_loss`, :meth:`mask_loss`, :meth:`_bbox_forward`,
    :meth:`_mask_forward`.
    """

    def init_assigner_sampler(self) -> None:
        self.bbox_assigner: Any = None
        self.bbox_sampler: Any = None
        if self.train_cfg:
            self.bbox_assigner = TASK_UTILS.build(self.train_cfg.assigner)
            self.bbox_sampler = TASK_UTILS.build(self.train_cfg.sampler, default_args=dict(context=self))

    def init_bbox_head(self, bbox_roi_extractor: ConfigType, bbox_head: ConfigType) -> None:
        self.bbox_roi_extractor = MODELS.build(bbox_roi_extractor)
        self.bbox_head = MODELS.build(bbox_head)

    def init_mask_head(self, mask_roi_extractor: ConfigType | None, mask_head: ConfigType) -> None:
        self.share_roi_extractor = mask_roi_extractor is None
        if mask_roi_extractor is None:
            self.mask_roi_extractor = self.bbox_roi_extractor
        else:
            self.mask_roi_extractor = MODELS.build(mask_roi_extractor)
        self.mask_head = MODELS.build(mask_head)

    def forward(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList | None = None
    ) -> tuple:
        """The bare outputs: class scores, boxes and, of the first 100 regions, masks."""
        rois = bbox2roi([proposals.bboxes for proposals in rpn_results_list])
        results: tuple = ()
        if self.with_bbox:
            outs = self._bbox_forward(x, rois)
            results += (outs['cls_score'], outs['bbox_pred'])
        if self.with_mask:
            results += (self._mask_forward(x, rois[:100])['mask_preds'],)
        return results

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        gt = self.ground_truths(batch_data_samples)
        samples = self.sample(self.bbox_assigner, self.bbox_sampler, rpn_results_list, gt, x)
        losses: dict = {}
        bbox_feats = None
        if self.with_bbox:
            bbox_results = self._bbox_loss_of(x, samples)
            losses.update(bbox_results['loss_bbox'])
            bbox_feats = bbox_results['bbox_feats']
        if self.with_mask:
            losses.update(self.mask_loss(x, samples, bbox_feats, gt.instances)['loss_mask'])
        return losses

    def _bbox_loss_of(self, x: tuple[Tensor, ...], samples: RoISamples) -> dict:
        """:meth:`bbox_loss` with what it takes of the samples."""
        return self.bbox_loss(x, samples)

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """``cls_score``, ``bbox_pred`` and ``bbox_feats`` of RoIs ``(K, 5)``."""
        feats = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        if self.with_shared_head:
            feats = self.shared_head(feats)
        cls_score, bbox_pred = self.bbox_head(feats)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=feats)

    @by_batch
    def bbox_loss(self, x: tuple[Tensor, ...], sampling_results: RoISamples | Sequence) -> dict:
        """Outputs of :meth:`_bbox_forward` with ``rois``, ``bbox_targets`` and ``loss_bbox``, a dict of losses."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        rois = samples.rois
        outs = self._bbox_forward(x, rois)
        found = self.bbox_head.loss_and_target(
            cls_score=outs['cls_score'],
            bbox_pred=outs['bbox_pred'],
            rois=rois,
            sampling_results=samples,
            rcnn_train_cfg=self.train_cfg,
        )
        outs.update(rois=rois, **found)
        return outs

    @by_batch
    def mask_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: RoISamples | Sequence,
        bbox_feats: Tensor | None,
        batch_gt_instances: InstanceList,
    ) -> dict:
        """Outputs of :meth:`_mask_forward` with ``loss_mask``, a dict of losses, and ``mask_targets``."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        if self.share_roi_extractor:
            outs = self._mask_forward(x, pos_inds=samples.positive_rows(), bbox_feats=bbox_feats)
        else:
            outs = self._mask_forward(x, samples.positives.rois)
        found = self.mask_head.loss_and_target(
            mask_preds=outs['mask_preds'],
            sampling_results=samples,
            batch_gt_instances=batch_gt_instances,
            rcnn_train_cfg=self.train_cfg,
        )
        outs.update(found)
        return outs

    def _mask_forward(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor | None = None,
        pos_inds: Tensor | None = None,
        bbox_feats: Tensor | None = None,
    ) -> dict:
        """``mask_preds`` and ``mask_feats`` of RoIs, or of the rows ``pos_inds`` of the box features."""
        if (rois is None) == (pos_inds is None or bbox_feats is None):
            raise UserValueError('give either rois, or pos_inds with bbox_feats')
        if bbox_feats is not None and pos_inds is not None:
            feats = bbox_feats[pos_inds]
        else:
            feats = self.mask_roi_extractor(x[: self.mask_roi_extractor.num_inputs], rois)
            if self.with_shared_head:
                feats = self.shared_head(feats)
        return dict(mask_preds=self.mask_head(feats), mask_feats=feats)

    def _refine_roi(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        batch_img_metas: list[dict],
        num_proposals_per_img: Sequence[int],
        **context,
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        outs, counts = self._bbox_forward(x, rois), list(num_proposals_per_img)
        boxes = split_rows(outs['bbox_pred'], counts, self.bbox_head)
        return rois.split(counts), split_rows(outs['cls_score'], counts), boxes

    def _predicted_masks(
        self, x: tuple[Tensor, ...], rois: Tensor, results_list: InstanceList, **context
    ) -> tuple[Tensor, bool]:
        return self._mask_forward(x, rois)['mask_preds'], False


def split_rows(value: Any, counts: list[int], head: Any = None) -> Sequence:
    """Rows of each image; None for each where there is nothing. What is not one tensor is split by its ``head``."""
    if value is None:
        return [None] * len(counts)
    return value.split(counts) if isinstance(value, Tensor) else head.bbox_pred_split(value, counts)
