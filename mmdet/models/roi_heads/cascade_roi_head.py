"""A sequence of box heads, each trained on the boxes of the one before (Cascade R-CNN, arXiv:1906.09756)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from mmengine.model import ModuleList
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import PaddedGT, Proposals, RoISamples, as_float32, by_batch
from mmdet.models.task_modules.joints import as_samples
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList, MultiConfig, OptConfigType, OptMultiConfig

from .base_roi_head import BaseRoIHead
from .standard_roi_head import split_rows


@MODELS.register_module()
class CascadeRoIHead(BaseRoIHead):
    """``num_stages`` stages of assigner, sampler, pooling and heads.

    Args:
        stage_loss_weights: Weight of each stage's losses.
        bbox_roi_extractor, bbox_head, mask_roi_extractor, mask_head: One for all stages, or a list.
    """

    interleaved = False
    """Whether a stage's masks are trained on its refined boxes, assigned and drawn anew, instead of those it got."""

    def __init__(
        self,
        num_stages: int,
        stage_loss_weights: list[float] | tuple[float, ...],
        bbox_roi_extractor: OptMultiConfig = None,
        bbox_head: OptMultiConfig = None,
        mask_roi_extractor: OptMultiConfig = None,
        mask_head: OptMultiConfig = None,
        shared_head: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        if bbox_roi_extractor is None or bbox_head is None:
            raise UserValueError('a cascade needs bbox_roi_extractor and bbox_head')
        if shared_head is not None:
            raise UserValueError('a cascade has no shared_head')
        self.num_stages, self.stage_loss_weights = num_stages, stage_loss_weights
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            mask_roi_extractor=mask_roi_extractor,
            mask_head=mask_head,
            shared_head=shared_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )

    def _stages(self, cfg: MultiConfig) -> list[ConfigType]:
        """``cfg`` of each stage."""
        if not isinstance(cfg, (list, tuple)):
            return [cfg] * self.num_stages
        if len(cfg) != self.num_stages:
            raise UserValueError(f'{len(cfg)} configs for {self.num_stages} stages')
        return list(cfg)

    def init_bbox_head(self, bbox_roi_extractor: MultiConfig, bbox_head: MultiConfig) -> None:
        self.bbox_roi_extractor = ModuleList(MODELS.build(cfg) for cfg in self._stages(bbox_roi_extractor))
        self.bbox_head = ModuleList(MODELS.build(cfg) for cfg in self._stages(bbox_head))

    def init_mask_head(self, mask_roi_extractor: MultiConfig | None, mask_head: MultiConfig) -> None:
        self.mask_head = ModuleList(MODELS.build(cfg) for cfg in self._stages(mask_head))
        self.share_roi_extractor = mask_roi_extractor is None
        if self.share_roi_extractor:
            self.mask_roi_extractor = self.bbox_roi_extractor
        else:
            self.mask_roi_extractor = ModuleList(MODELS.build(cfg) for cfg in self._stages(mask_roi_extractor))

    def init_assigner_sampler(self) -> None:
        self.bbox_assigner, self.bbox_sampler = [], []
        for stage, cfg in enumerate(self.train_cfg or ()):
            self.bbox_assigner.append(TASK_UTILS.build(cfg.assigner))
            self.current_stage = stage
            self.bbox_sampler.append(TASK_UTILS.build(cfg.sampler, default_args=dict(context=self)))

    def forward(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList | None = None
    ) -> tuple:
        """The bare outputs: averaged class scores, boxes of the last stage and, of its first 100 regions, masks."""
        proposals = [results.bboxes for results in rpn_results_list]
        metas = [sample.metainfo for sample in batch_data_samples or ()]
        results: tuple = ()
        _, context = self._context(x)
        if self.with_bbox:
            counts = [len(boxes) for boxes in proposals]
            _, cls_scores, bbox_preds = self._refine_roi(x, bbox2roi(proposals), metas, counts, **context)
            results += (cls_scores, bbox_preds)
        if self.with_mask:
            results += (self._masks_of_stages(x, bbox2roi(proposals)[:100], **context),)
        return results

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """``cls_score``, ``bbox_pred`` and ``bbox_feats`` of RoIs ``(K, 5)``."""
        extractor = self.bbox_roi_extractor[stage]
        feats = extractor(x[: extractor.num_inputs], rois)
        cls_score, bbox_pred = self.bbox_head[stage](feats)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=feats)

    def _mask_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        extractor = self.mask_roi_extractor[stage]
        return dict(mask_preds=self.mask_head[stage](extractor(x[: extractor.num_inputs], rois)))

    @by_batch
    def bbox_loss(self, stage: int, x: tuple[Tensor, ...], sampling_results: RoISamples | Sequence, **context) -> dict:
        """Outputs of :meth:`_bbox_forward` with ``rois``, ``bbox_targets`` and ``loss_bbox``, a dict of losses."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        rois = samples.rois
        outs = self._bbox_forward(stage, x, rois, **context)
        found = self.bbox_head[stage].loss_and_target(
            cls_score=outs['cls_score'],
            bbox_pred=outs['bbox_pred'],
            rois=rois,
            sampling_results=samples,
            rcnn_train_cfg=self.train_cfg[stage],
        )
        outs.update(rois=rois, **found)
        return outs

    @by_batch
    def mask_loss(
        self,
        stage: int,
        x: tuple[Tensor, ...],
        sampling_results: RoISamples | Sequence,
        batch_gt_instances: InstanceList,
        **context,
    ) -> dict:
        """Outputs of :meth:`_mask_forward` with ``loss_mask``, a dict of losses."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        outs = self._mask_forward(stage, x, samples.positives.rois, **context)
        outs.update(
            self.mask_head[stage].loss_and_target(
                mask_preds=outs['mask_preds'],
                sampling_results=samples,
                batch_gt_instances=batch_gt_instances,
                rcnn_train_cfg=self.train_cfg[stage],
            )
        )
        return outs

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """Losses named ``s0.loss_cls`` and so on."""
        gt = self.ground_truths(batch_data_samples)
        metas = [sample.metainfo for sample in batch_data_samples]
        losses, context = self._context(x, batch_data_samples)
        for stage, samples, outs in self._box_stages(x, rpn_results_list, gt, metas, **context):
            found = dict(outs['loss_bbox'])
            if self.with_mask:
                found.update(self.mask_loss(stage, x, samples, gt.instances, **context)['loss_mask'])
            losses.update(self._of_stage(stage, found))
        return losses

    def _box_stages(
        self, x: tuple[Tensor, ...], proposals: Proposals | InstanceList, gt: PaddedGT, metas: list[dict], **context
    ) -> Iterator[tuple[int, RoISamples, dict]]:
        """Each stage, the samples that its masks are trained on, and what :meth:`bbox_loss` gives."""
        for stage in range(self.num_stages):
            self.current_stage = stage
            draw = partial(self.sample, self.bbox_assigner[stage], self.bbox_sampler[stage], gt=gt, feats=x)
            samples = draw(proposals)
            outs = self.bbox_loss(stage, x, samples, **context)
            interleaved = self.interleaved and self.with_mask
            if interleaved or stage < self.num_stages - 1:
                with torch.no_grad():
                    proposals = self.bbox_head[stage].refine_bboxes(samples, outs, metas)
            if interleaved:
                samples = draw(proposals)
            yield stage, samples, outs

    def _of_stage(self, stage: int, losses: dict) -> dict:
        """Losses with the name of their stage and its weight."""
        weight = self.stage_loss_weights[stage]
        return {f's{stage}.{name}': value * weight if 'loss' in name else value for name, value in losses.items()}

    def _refine_roi(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        batch_img_metas: list[dict],
        num_proposals_per_img: Sequence[int],
        **kwargs,
    ) -> tuple[Sequence[Tensor], list[Tensor], Sequence[Tensor]]:
        """Of each image the RoIs of the last stage, the scores averaged over all stages and the last predictions."""
        counts, stage_scores = list(num_proposals_per_img), []
        for stage, head in enumerate(self.bbox_head):
            outs = self._bbox_forward(stage, x, rois, **kwargs)
            scores, bbox_preds = as_float32((outs['cls_score'], outs['bbox_pred']))
            if head.custom_activation:
                scores = head.loss_cls.get_activation(scores)
            stage_scores.append(scores)
            if stage < self.num_stages - 1 and rois.shape[0]:
                labels = scores[:, :-1].argmax(1)
                boxes = split_rows(bbox_preds, counts, head)
                parts = zip(rois.split(counts), labels.split(counts), boxes, batch_img_metas)
                moved = [head.regress_by_class(roi[:, 1:], *rest) for roi, *rest in parts]
                rois = torch.cat([rois[:, :1], torch.cat(moved)], 1)
        scores = sum(stage_scores) / float(len(stage_scores))
        return rois.split(counts), scores.split(counts), split_rows(bbox_preds, counts, self.bbox_head[-1])

    def _predicted_masks(
        self, x: tuple[Tensor, ...], rois: Tensor, results_list: InstanceList, **context
    ) -> tuple[Tensor, bool]:
        first, *others = stages = as_float32(self._masks_of_stages(x, rois, **context))
        return sum((preds.sigmoid() for preds in others), first.sigmoid()) / len(stages), True

    def _masks_of_stages(self, x: tuple[Tensor, ...], rois: Tensor, **context) -> list[Tensor]:
        """Mask logits of each stage."""
        return [self._mask_forward(stage, x, rois, **context)['mask_preds'] for stage in range(self.num_stages)]
