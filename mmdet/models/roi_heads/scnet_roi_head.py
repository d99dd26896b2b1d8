"""A cascade of boxes with one mask head, trained on what it will meet (SCNet, arXiv:2012.10150)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmdet.models.core import RoISamples, by_batch
from mmdet.models.task_modules.joints import as_samples
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, InstanceList, OptConfigType

from .cascade_roi_head import CascadeRoIHead
from .htc_roi_head import HybridTaskCascadeRoIHead


@MODELS.register_module()
class SCNetRoIHead(HybridTaskCascadeRoIHead):
    """Masks are trained on the boxes of the last stage alone, as they are predicted (Sec. 3.1).

    Args:
        feat_relay_head: Makes features for masks of those of the last box head (Sec. 3.3).
        glbctx_head: Global context, which is added to the features of every region (Sec. 3.2).
    """

    def __init__(
        self,
        num_stages: int,
        stage_loss_weights: list[float] | tuple[float, ...],
        semantic_roi_extractor: OptConfigType = None,
        semantic_head: OptConfigType = None,
        feat_relay_head: OptConfigType = None,
        glbctx_head: OptConfigType = None,
        **kwargs,
    ) -> None:
        kwargs.update(interleaved=False, mask_info_flow=False)
        super().__init__(num_stages, stage_loss_weights, semantic_roi_extractor, semantic_head, **kwargs)
        if feat_relay_head is not None:
            self.feat_relay_head = MODELS.build(feat_relay_head)
        if glbctx_head is not None:
            self.glbctx_head = MODELS.build(glbctx_head)

    def init_mask_head(self, mask_roi_extractor: ConfigType, mask_head: ConfigType) -> None:
        self.mask_roi_extractor = MODELS.build(mask_roi_extractor)
        self.mask_head = MODELS.build(mask_head)

    @property
    def with_feat_relay(self) -> bool:
        """Whether masks get features of the last box head."""
        return getattr(self, 'feat_relay_head', None) is not None

    @property
    def with_glbctx(self) -> bool:
        """Whether regions get the global context."""
        return getattr(self, 'glbctx_head', None) is not None

    def semantic_loss(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> tuple[Tensor, Tensor]:
        """Semantic features and their loss."""
        losses, context = HybridTaskCascadeRoIHead._context(self, x, batch_data_samples)
        return context['semantic_feat'], losses['loss_semantic_seg']

    def global_context_loss(self, x: tuple[Tensor, ...], batch_gt_instances: InstanceList) -> tuple[Tensor, Tensor]:
        """Features of the global context and their loss."""
        preds, feat = self.glbctx_head(x)
        return feat, self.glbctx_head.loss(preds, [instances.labels for instances in batch_gt_instances])

    def _context(self, x: tuple[Tensor, ...], batch_data_samples: SampleList | None = None) -> tuple[dict, dict]:
        losses: dict = {}
        context: dict = dict.fromkeys(('semantic_feat', 'glbctx_feat'))
        if batch_data_samples is None:
            context['semantic_feat'] = self.semantic_head(x)[1] if self.with_semantic else None
            context['glbctx_feat'] = self.glbctx_head(x)[1] if self.with_glbctx else None
            return losses, context
        if self.with_semantic:
            context['semantic_feat'], losses['loss_semantic_seg'] = self.semantic_loss(x, batch_data_samples)
        if self.with_glbctx:
            instances = [sample.gt_instances for sample in batch_data_samples]
            context['glbctx_feat'], losses['loss_glbctx'] = self.global_context_loss(x, instances)
        return losses, context

    def _fuse_glbctx(self, roi_feats: Tensor, glbctx_feat: Tensor, rois: Tensor) -> Tensor:
        """Add to each region the context of its image."""
        return roi_feats + glbctx_feat[rois[:, 0].long()]

    def _fused(
        self, branch: str, feats: Tensor, rois: Tensor, semantic_feat: Tensor | None, glbctx_feat: Tensor | None
    ) -> Tensor:
        feats = self._fuse(branch, feats, rois, semantic_feat)
        return feats if glbctx_feat is None else self._fuse_glbctx(feats, glbctx_feat, rois)

    def _bbox_forward(
        self,
        stage: int,
        x: tuple[Tensor, ...],
        rois: Tensor,
        semantic_feat: Tensor | None = None,
        glbctx_feat: Tensor | None = None,
    ) -> dict:
        """``cls_score``, ``bbox_pred`` and ``relayed_feat (K, c)`` of RoIs ``(K, 5)``."""
        extractor = self.bbox_roi_extractor[stage]
        feats = self._fused('bbox', extractor(x[: extractor.num_inputs], rois), rois, semantic_feat, glbctx_feat)
        return dict(
            zip(('cls_score', 'bbox_pred', 'relayed_feat'), self.bbox_head[stage](feats, return_shared_feat=True))
        )

    def _mask_forward(  # type: ignore[override]  # one head for all stages
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        semantic_feat: Tensor | None = None,
        glbctx_feat: Tensor | None = None,
        relayed_feat: Tensor | None = None,
    ) -> dict:
        extractor = self.mask_roi_extractor
        feats = self._fused('mask', extractor(x[: extractor.num_inputs], rois), rois, semantic_feat, glbctx_feat)
        return dict(mask_preds=self.mask_head(feats if relayed_feat is None else feats + relayed_feat))

    @by_batch
    def bbox_loss(
        self,
        stage: int,
        x: tuple[Tensor, ...],
        sampling_results: RoISamples | Sequence,
        semantic_feat: Tensor | None = None,
        glbctx_feat: Tensor | None = None,
    ) -> dict:
        context = dict(semantic_feat=semantic_feat, glbctx_feat=glbctx_feat)
        return super().bbox_loss(stage, x, sampling_results, **context)

    @by_batch
    def mask_loss(  # type: ignore[override]  # one head for all stages
        self,
        x: tuple[Tensor, ...],
        sampling_results: RoISamples | Sequence,
        batch_gt_instances: InstanceList,
        semantic_feat: Tensor | None = None,
        glbctx_feat: Tensor | None = None,
        relayed_feat: Tensor | None = None,
    ) -> dict:
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        outs = self._mask_forward(x, samples.positives.rois, semantic_feat, glbctx_feat, relayed_feat)
        found = self.mask_head.loss_and_target(
            mask_preds=outs['mask_preds'],
            sampling_results=samples,
            batch_gt_instances=batch_gt_instances,
            rcnn_train_cfg=self.train_cfg[-1],
        )
        return {**outs, **found}

    def _slice_pos_feats(self, feats: Tensor, sampling_results: RoISamples | Sequence) -> Tensor:
        """The rows of ``feats`` that are those of positives."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        return feats[samples.positive_rows()]

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """Losses named ``s0.loss_cls`` and so on, and ``loss_mask``, which weighs as much as all stages."""
        gt, metas = self.ground_truths(batch_data_samples), [sample.metainfo for sample in batch_data_samples]
        losses, context = self._context(x, batch_data_samples)
        stages = list(self._box_stages(x, rpn_results_list, gt, metas, **context))
        for stage, _, outs in stages:
            losses.update(self._of_stage(stage, outs['loss_bbox']))
        _, samples, outs = stages[-1]
        relayed = None
        if self.with_feat_relay:
            relayed = self.feat_relay_head(self._slice_pos_feats(outs['relayed_feat'], samples))
        found = self.mask_loss(x, samples, gt.instances, **context, relayed_feat=relayed)
        losses['loss_mask'] = sum(self.stage_loss_weights) * found['loss_mask']['loss_mask']
        return losses

    def _masks_of_stages(self, x: tuple[Tensor, ...], rois: Tensor, **context) -> list[Tensor]:
        relayed = None
        if self.with_feat_relay:
            relayed = self.feat_relay_head(self._bbox_forward(-1, x, rois, **context)['relayed_feat'])
        return [self._mask_forward(x, rois, **context, relayed_feat=relayed)['mask_preds']]

    def predict_mask(  # type: ignore[override]  # 3.x has the features of the context before the images
        self,
        x: tuple[Tensor, ...],
        semantic_heat: Tensor | None,
        glbctx_feat: Tensor | None,
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """``semantic_heat``: the semantic features, as MMDetection calls them here."""
        context = dict(semantic_feat=semantic_heat, glbctx_feat=glbctx_feat)
        return CascadeRoIHead.predict_mask(self, x, batch_img_metas, results_list, rescale, **context)
