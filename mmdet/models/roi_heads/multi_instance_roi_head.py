"""Several objects of one region (CrowdDet, arXiv:2003.09163)."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import PaddedGT, Proposals, RoISamples, by_batch
from mmdet.models.task_modules.samplers.multi_instance_sampling_result import InstanceSets, as_sets
from mmdet.registry import MODELS
from mmdet.utils import InstanceList

from .standard_roi_head import StandardRoIHead


@MODELS.register_module()
class MultiInstanceRoIHead(StandardRoIHead):
    """A second stage whose assigner, sampler and box head know ``num_instance`` objects of each region.

    Where the box head refines its predictions, both it and the first ones are trained and the refined ones are the
    results.
    """

    def __init__(self, num_instance: int = 2, *args, **kwargs) -> None:
        self.num_instance = num_instance
        super().__init__(*args, **kwargs)

    def sample(
        self, assigner, sampler, proposals: Proposals | InstanceList, gt: PaddedGT, feats: tuple[Tensor, ...]
    ) -> RoISamples:
        if hasattr(assigner.assign, 'by_batch') and not getattr(sampler, 'by_image', True):
            return super().sample(assigner, sampler, proposals, gt, feats)
        results = []
        for image, own, ignored in zip(Proposals.of(proposals), gt.instances, gt.ignored_instances):
            priors = InstanceData(priors=image.bboxes)
            assigned = assigner.assign(priors, own, ignored)
            results.append(sampler.sample(assigned, priors, own, batch_gt_instances_ignore=ignored))
        return as_sets(results)

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """``cls_score``, ``bbox_pred`` and ``bbox_feats`` of RoIs ``(K, 5)``; maybe ``cls_score_ref`` and
        ``bbox_pred_ref``."""
        feats = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        if self.with_shared_head:
            feats = self.shared_head(feats)
        names = ('cls_score', 'bbox_pred', 'cls_score_ref', 'bbox_pred_ref')
        return dict(zip(names, self.bbox_head(feats)), bbox_feats=feats)

    @by_batch
    def bbox_loss(self, x: tuple[Tensor, ...], sampling_results: RoISamples | Sequence) -> dict:
        samples = sampling_results if isinstance(sampling_results, InstanceSets) else as_sets(sampling_results)
        outs, losses = self._bbox_forward(x, samples.rois), {}
        for suffix in ('', '_ref') if 'cls_score_ref' in outs else ('',):
            found = self.bbox_head.loss_and_target(
                cls_score=outs[f'cls_score{suffix}'],
                bbox_pred=outs[f'bbox_pred{suffix}'],
                rois=samples.rois,
                sampling_results=samples,
                rcnn_train_cfg=self.train_cfg,
            )
            losses.update({f'{name}{suffix}': value for name, value in found['loss_bbox'].items()})
            outs.update(bbox_targets=found['bbox_targets'])
        outs.update(rois=samples.rois, loss_bbox=losses)
        return outs

    def _refine_roi(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        batch_img_metas: list[dict],
        num_proposals_per_img: Sequence[int],
        **context,
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        outs, counts = self._bbox_forward(x, rois), list(num_proposals_per_img)
        suffix = '_ref' if 'cls_score_ref' in outs else ''
        return rois.split(counts), outs[f'cls_score{suffix}'].split(counts), outs[f'bbox_pred{suffix}'].split(counts)
