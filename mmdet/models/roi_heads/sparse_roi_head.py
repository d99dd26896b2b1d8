"""Stages that refine learned proposals (Sparse R-CNN, arXiv:2011.12450; QueryInst, arXiv:2105.01928).

Letters: B images, Q queries, C channels, K detections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    MatchedQueries,
    PaddedGT,
    Priors,
    QueryPairs,
    as_float32,
    by_batch,
    fixed_instances,
    image_shapes,
    in_float32,
    rescaled_fields,
    stacked,
    unstacked,
    with_image,
)
from mmdet.models.task_modules.joints import as_matched, match_stages, sample_images
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

from .cascade_roi_head import CascadeRoIHead


@MODELS.register_module()
class SparseRoIHead(CascadeRoIHead):
    """Each stage refines the boxes and features of all queries, which are matched one-to-one.

    All stages are matched at once when the last has run, since none needs to know what those before were matched to.

    Args:
        proposal_feature_channel: C.
        mask_head: Of each stage, for QueryInst.
    """

    def __init__(
        self,
        num_stages: int = 6,
        stage_loss_weights: Sequence[float] = (1, 1, 1, 1, 1, 1),
        proposal_feature_channel: int = 256,
        bbox_roi_extractor: ConfigType = dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_roi_extractor: OptConfigType = None,
        bbox_head: ConfigType = dict(type='DIIHead'),
        mask_head: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        if len(stage_loss_weights) != num_stages:
            raise UserValueError(f'{len(stage_loss_weights)} stage_loss_weights for {num_stages} stages')
        self.proposal_feature_channel = proposal_feature_channel
        super().__init__(
            num_stages,
            tuple(stage_loss_weights),
            bbox_roi_extractor=bbox_roi_extractor,
            mask_roi_extractor=mask_roi_extractor,
            bbox_head=bbox_head,
            mask_head=mask_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        for sampler in self.bbox_sampler:
            if not isinstance(sampler, PseudoSampler):
                raise UserValueError(f'queries are all trained: the sampler must be PseudoSampler, not {sampler}')

    def _bbox_forward(  # type: ignore[override]  # features of the queries beside their boxes
        self, stage: int, x: tuple[Tensor, ...], rois: Tensor, object_feats: Tensor, batch_img_metas: list[dict]
    ) -> dict:
        """What a stage makes of RoIs ``(B * Q, 5)`` and of the features ``(B, Q, C)`` of their queries.

        Returns:
            ``cls_score (B, Q, classes)`` logits, ``decoded_bboxes (B * Q, 4)`` xyxy in pixels, ``object_feats`` and
            ``attn_feats`` as :class:`DIIHead` gives them, and, for the matching, without gradients and by image,
            ``detached_cls_scores`` and ``detached_proposals``.
        """
        extractor, head = self.bbox_roi_extractor[stage], self.bbox_head[stage]
        feats = extractor(x[: extractor.num_inputs], rois)
        scores, deltas, object_feats, attn_feats = head(feats, object_feats)
        boxes = rois[:, 1:].view_as(deltas)
        boxes = get_box_tensor(
            head.bbox_coder.decode(boxes, as_float32(deltas), max_shape=image_shapes(batch_img_metas))
        )
        return dict(
            cls_score=scores,
            decoded_bboxes=boxes.flatten(0, 1),
            object_feats=object_feats,
            attn_feats=attn_feats,
            detached_cls_scores=unstacked(scores.detach()),
            detached_proposals=unstacked(boxes.detach()),
        )

    def _run_stage(
        self, stage: int, x: tuple[Tensor, ...], results_list: InstanceList, feats: Tensor, metas: list[dict]
    ) -> dict:
        """:meth:`_bbox_forward` with ``results_list``, from which the next stage starts."""
        boxes = stacked([results.bboxes for results in results_list])
        outs = self._bbox_forward(stage, x, with_image(boxes).flatten(0, 1), feats, metas)
        outs['results_list'] = [
            type(results)(bboxes=boxes, imgs_whwh=results.imgs_whwh)
            for boxes, results in zip(outs['detached_proposals'], results_list)
        ]
        return outs

    # --------------------------------------------------------------------------------------------- training

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """Losses named ``s0.loss_cls`` and so on."""
        gt, metas = self.ground_truths(batch_data_samples), [sample.metainfo for sample in batch_data_samples]
        results, feats = rpn_results_list, _features(rpn_results_list)
        at_once, stages = hasattr(self.bbox_loss, 'by_batch'), []
        for stage in range(self.num_stages):
            if at_once:
                outs = self._run_stage(stage, x, results, feats, metas)
            else:
                outs = self.bbox_loss(stage, x, results, feats, metas, gt.instances)
            results, feats = outs['results_list'], outs['object_feats']
            stages.append(outs)
        if at_once:
            self._add_losses(dict(enumerate(stages)), gt, metas)
        losses = {}
        for stage, (outs, weight) in enumerate(zip(stages, self.stage_loss_weights)):
            found = dict(outs['loss_bbox'])
            if self.with_mask:
                found.update(self.mask_loss(stage, x, outs, gt.instances, self.train_cfg[stage])['loss_mask'])
            for name, value in found.items():
                losses[f's{stage}.{name}'] = value * weight if 'loss' in name else value
        return losses

    @by_batch
    def bbox_loss(  # type: ignore[override]  # matched here, not before
        self,
        stage: int,
        x: tuple[Tensor, ...],
        results_list: InstanceList,
        object_feats: Tensor,
        batch_img_metas: list[dict],
        batch_gt_instances: InstanceList,
    ) -> dict:
        """Outputs of :meth:`_bbox_forward` with ``sampling_results``, ``bbox_targets``, ``loss_bbox``, a dict of
        losses, and ``results_list`` for the next stage.

        Args:
            results_list: ``bboxes (Q, 4)`` and ``imgs_whwh (Q, 4)`` of each image.
        """
        outs = self._run_stage(stage, x, results_list, object_feats, batch_img_metas)
        self._add_losses({stage: outs}, PaddedGT.from_instances(batch_gt_instances), batch_img_metas)
        return outs

    def _add_losses(self, stages: Mapping[int, dict], gt: PaddedGT, metas: list[dict]) -> None:
        """Match what stages gave, all at once, and put the losses of each into it."""
        sizes = torch.stack([results.imgs_whwh for results in next(iter(stages.values()))['results_list']])
        for (stage, outs), samples in zip(stages.items(), self._match(stages, gt, sizes[:, 0], metas)):
            found = self.bbox_head[stage].loss_and_target(
                cls_score=as_float32(outs['cls_score']).flatten(0, 1),
                bbox_pred=outs['decoded_bboxes'].view(-1, 4),
                sampling_results=samples,
                rcnn_train_cfg=self.train_cfg[stage],
                imgs_whwh=sizes,
                concat=True,
            )
            outs.update(sampling_results=samples, **found)

    @torch.no_grad()
    def _match(
        self, stages: Mapping[int, dict], gt: PaddedGT, sizes: Tensor, metas: list[dict]
    ) -> list[MatchedQueries]:
        """What each stage is trained for; ``sizes (B, 4)`` as in :class:`QueryPairs`."""
        stack = lambda outs, name: as_float32(torch.stack(outs[name]))
        pairs = [
            QueryPairs(gt, stack(outs, 'detached_cls_scores'), stack(outs, 'detached_proposals'), None, sizes, metas)
            for outs in stages.values()
        ]
        assignments = match_stages([self.bbox_assigner[stage] for stage in stages], pairs)
        return [self._sampled(*item, gt) for item in zip(stages, pairs, assignments)]

    def _sampled(self, stage: int, pairs: QueryPairs, found: Assignment, gt: PaddedGT) -> MatchedQueries:
        assert pairs.bboxes is not None
        boxes, sampler, queries = pairs.bboxes, self.bbox_sampler[stage], pairs.bboxes.shape[1]
        if sampler.by_image:
            pos, neg = sample_images(sampler, Priors(boxes, torch.ones_like(found.pos), [queries]), found, gt)
        else:
            pos, neg = found.pos, found.neg
        known = getattr(self.bbox_assigner[stage], 'one_to_one', False) and not sampler.by_image
        counts = [min(count, queries) for count in gt.counts] if known else pos.sum(1).tolist()
        return MatchedQueries.of(boxes, found.gt_inds, pos, neg, gt, counts)

    def _mask_forward(  # type: ignore[override]  # features of the queries beside their boxes
        self, stage: int, x: tuple[Tensor, ...], rois: Tensor, attn_feats: Tensor
    ) -> dict:
        """``mask_preds`` of RoIs ``(K, 5)`` and of the features of their queries ``(K, C)`` or ``(B, Q, C)``."""
        extractor = self.mask_roi_extractor[stage]
        return dict(mask_preds=self.mask_head[stage](extractor(x[: extractor.num_inputs], rois), attn_feats))

    @by_batch
    def mask_loss(  # type: ignore[override]  # what bbox_loss gave in the place of the samples
        self,
        stage: int,
        x: tuple[Tensor, ...],
        bbox_results: dict,
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigDict,
    ) -> dict:
        """Outputs of :meth:`_mask_forward` for the matched queries, with ``loss_mask``, a dict of losses."""
        samples = bbox_results['sampling_results']
        samples = samples if isinstance(samples, MatchedQueries) else as_matched(samples)
        feats = bbox_results['attn_feats'].flatten(0, 1)[samples.positive_rows()]
        outs = self._mask_forward(stage, x, samples.positives.rois, feats)
        outs.update(
            self.mask_head[stage].loss_and_target(
                mask_preds=outs['mask_preds'],
                sampling_results=samples,
                batch_gt_instances=batch_gt_instances,
                rcnn_train_cfg=rcnn_train_cfg,
            )
        )
        return outs

    # -------------------------------------------------------------------------------------------- inference

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigDict | None,
        rescale: bool = False,
        **context,
    ) -> InstanceList:
        """The ``max_per_img`` best pairs of query and class of each image, best first; nothing is suppressed.

        For the masks there are ``attn_feats (K, C)`` too, if there is a head for them.
        """
        results, feats = rpn_results_list, _features(rpn_results_list)
        for stage in range(self.num_stages):
            outs = self._run_stage(stage, x, results, feats, batch_img_metas)
            results, feats = outs['results_list'], outs['object_feats']
        return self._detections(outs, batch_img_metas, rcnn_test_cfg or {}, rescale)

    @in_float32
    def _detections(self, outs: dict, metas: list[dict], cfg: ConfigType, rescale: bool) -> InstanceList:
        head, logits = self.bbox_head[-1], outs['cls_score'].float()
        scores = logits.sigmoid() if head.loss_cls.use_sigmoid else logits.softmax(-1)[..., :-1]
        scores = scores.flatten(1)  # (B, Q * classes)
        scores, index = scores.topk(min(cfg.get('max_per_img', scores.shape[1]), scores.shape[1]))  # (B, K)
        queries, labels = index // head.num_classes, index % head.num_classes
        image = torch.arange(index.shape[0], device=index.device)[:, None]
        fields = dict(bboxes=stacked(outs['detached_proposals'])[image, queries], scores=scores, labels=labels)
        if rescale:
            fields.update(rescaled_fields(fields, metas))
        if self.with_mask:
            fields['attn_feats'] = outs['attn_feats'][image, queries]
        if is_fixed_size():
            return [fixed_instances(fields)]
        return [InstanceData(**{name: value[b] for name, value in fields.items()}) for b in range(len(metas))]

    def predict_mask(  # type: ignore[override]  # the context is in the results
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """Put ``masks`` into the detections of each image, in the place of ``attn_feats``."""
        feats = torch.cat([results.pop('attn_feats') for results in results_list])
        feats = feats.flatten(0, 1) if is_fixed_size() else feats
        return super().predict_mask(x, batch_img_metas, results_list, rescale, attn_feats=feats)

    def _predicted_masks(
        self, x: tuple[Tensor, ...], rois: Tensor, results_list: InstanceList, **context
    ) -> tuple[Tensor, bool]:
        return self._mask_forward(self.num_stages - 1, x, rois, **context)['mask_preds'], False

    def forward(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList | None = None
    ) -> tuple:
        """The bare outputs of each stage: those of :meth:`_bbox_forward` and, of all queries, :meth:`_mask_forward`."""
        metas = [sample.metainfo for sample in batch_data_samples or ()]
        results, feats, stages = rpn_results_list, _features(rpn_results_list), []
        for stage in range(self.num_stages):
            outs = self._run_stage(stage, x, results, feats, metas)
            results, feats = outs.pop('results_list'), outs['object_feats']
            rois = bbox2roi(outs.pop('detached_proposals'))
            del outs['detached_cls_scores']
            masks = (self._mask_forward(stage, x, rois, outs['attn_feats']),) if self.with_mask else ()
            stages.append((outs, *masks))
        return tuple(stages)


def _features(results_list: InstanceList) -> Tensor:
    """``(B, Q, C)`` of the queries."""
    return stacked([results.features for results in results_list])
