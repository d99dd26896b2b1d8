"""Probabilistic anchor assignment (PAA, arXiv:2007.08103).

Letters: B images, P anchors of all levels, G padded ground truths, L levels, K candidates kept of a level, C classes,
S = L * K slots of a ground truth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import (
    DenseTargets,
    TestCfg,
    flatten_levels,
    gather_rows,
    image_shapes,
    overridden,
    rescale_results,
    split_by_mixture,
    suppress,
)
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps

from .anchor_head import AnchorHead
from .atss_head import ATSSHead

COVARIANCES = ('full', 'tied', 'diag', 'spherical')


class ImageTargets(DenseTargets):
    """Unpacks as PAA's ``get_targets`` does in MMDetection: lists by image of the labels, label weights, box targets,
    box weights, positive indices, and the ground truth of each positive."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        for value in (self.labels, self.label_weights, self.bbox_targets, self.bbox_weights):
            yield list(value)
        yield [pos.nonzero().flatten() for pos in self.pos]
        yield [inds[pos] - 1 for inds, pos in zip(self.gt_inds, self.pos)]


@MODELS.register_module()
class PAAHead(ATSSHead):
    """ATSS whose positives are those anchors of a ground truth that a mixture of two Gaussians, fitted to the losses of
    its best anchors, takes for the better ones (Sec. 3.2), with the predicted IoU in place of centerness (Sec. 3.3).

    Args:
        topk: Anchors of the least loss on each level that enter the fit.
        score_voting: Whether detections become means of the boxes around them (Sec. 3.4).
        covariance_type: As scikit-learn's: 'full', 'tied', 'diag' or 'spherical'.
    """

    anchors_in_targets = False
    _get_targets_single = AnchorHead._get_targets_single

    def __init__(
        self, *args, topk: int = 9, score_voting: bool = True, covariance_type: str = 'diag', **kwargs
    ) -> None:
        if covariance_type not in COVARIANCES:
            raise ValueError(f'covariance_type={covariance_type!r} is none of {", ".join(COVARIANCES)}')
        self.topk, self.with_score_voting, self.covariance_type = topk, score_voting, covariance_type
        super().__init__(*args, **kwargs)

    def get_targets(self, *args, **kwargs):
        if overridden(self, '_get_targets_single'):
            *values, results = super().get_targets(*args, **kwargs, return_sampling_results=True)
            targets = DenseTargets.coerce(values)
            targets.gt_inds = torch.zeros_like(targets.labels)
            for inds, result in zip(targets.gt_inds, results):
                inds[result.pos_inds] = result.pos_assigned_gt_inds + 1
        else:
            targets = super().get_targets(*args, **kwargs)
        return ImageTargets(**{field.name: getattr(targets, field.name) for field in dataclasses.fields(targets)})

    def loss_by_feat(
        self, cls_scores, bbox_preds, iou_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        logits = flatten_levels(cls_scores, self.cls_out_channels).flatten(0, 1)
        pred = self.bbox_coder.decode(anchors.flatten(0, 1), flatten_levels(bbox_preds, self.reg_dim).flatten(0, 1))
        boxes = torch.where(targets.pos.flatten()[:, None], targets.bbox_targets.flatten(0, 1), pred.detach())
        with torch.no_grad():
            losses = self.get_pos_loss(logits, pred, targets.labels.flatten(), boxes).view_as(targets.labels)
            num_gt = max(1, *map(len, batch_gt_instances))
            pos = self.paa_reassign(losses, targets, num_gt).flatten()
        labels = torch.where(pos, targets.labels.flatten(), self.num_classes)
        weight, num_pos = pos.to(pred.dtype), pos.sum()
        quality = bbox_overlaps(pred.detach(), boxes, is_aligned=True) * weight
        iou_logits = flatten_levels(iou_preds, 1).flatten()
        return dict(
            loss_cls=self.loss_cls(
                logits, labels, targets.label_weights.flatten(), avg_factor=num_pos.clamp(min=len(batch_img_metas))
            ),
            loss_bbox=self.loss_bbox(pred, boxes, weight=quality, avg_factor=quality.sum()),
            loss_iou=self.loss_centerness(iou_logits, quality, weight, avg_factor=num_pos.clamp(min=1)),
        )

    def get_pos_loss(self, logits: Tensor, pred: Tensor, labels: Tensor, boxes: Tensor) -> Tensor:
        """Loss ``(n,)`` by which anchors are ranked (Eq. 7): of the class and of the decoded box."""
        loss_cls = self.loss_cls(logits, labels, avg_factor=1.0, reduction_override='none')
        loss_bbox = self.loss_bbox(pred, boxes, avg_factor=1.0, reduction_override='none')
        return loss_cls.sum(-1) + loss_bbox

    def paa_reassign(self, losses: Tensor, targets: DenseTargets, num_gt: int) -> Tensor:
        """``(B, P)`` bool: the positives that remain. One transfer from the device and one back.

        Args:
            losses: ``(B, P)``.
            num_gt: G, the most ground truths of an image.
        """
        sizes, (batch, num_priors) = targets.level_sizes, losses.shape
        slots = len(sizes) * self.topk
        # Rank of each anchor among those of its ground truth on its level: sorted by loss, then stably by group.
        group = targets.groups(num_gt)
        by_loss = losses.argsort(dim=1, stable=True)
        by_group = group.gather(1, by_loss).argsort(dim=1, stable=True)
        order = by_loss.gather(1, by_group)  # (B, P)
        sorted_group = group.gather(1, order)
        rank = torch.arange(num_priors, device=losses.device) - torch.searchsorted(sorted_group, sorted_group)
        chosen = (rank < self.topk) & (sorted_group < num_gt * len(sizes))
        slot = torch.where(chosen, sorted_group * self.topk + rank, num_gt * slots)
        filled = losses.new_full((batch, num_gt * slots + 1), math.inf)
        filled = filled.scatter(1, slot, torch.where(chosen, losses.gather(1, order), math.inf))
        kept = self._keep(filled[:, :-1].reshape(-1, slots).cpu()).to(losses.device).view(batch, -1)
        kept = torch.cat([kept, kept.new_zeros(batch, 1)], 1).gather(1, slot)
        return torch.zeros_like(targets.pos).scatter(1, order, kept & chosen)

    def _keep(self, losses: Tensor) -> Tensor:
        """``(n, S)`` bool: which candidates of each ground truth become positive; empty slots have infinite loss."""
        values, order = losses.sort(dim=1, stable=True)
        valid = values.isfinite()
        fit = valid.sum(1) >= 2  # one value makes no mixture
        kept = torch.zeros_like(valid)
        if fit.any():
            lower, scores = split_by_mixture(values[fit], valid[fit], self.covariance_type)
            kept[fit] = self.gmm_separation_scheme(lower & valid[fit], scores)
        return torch.zeros_like(kept).scatter(1, order, kept)

    def gmm_separation_scheme(self, lower: Tensor, scores: Tensor) -> Tensor:
        """Scheme (c) of Fig. 3: of the lower component up to its likeliest value.

        Args:
            lower: ``(n, S)`` bool, members of the lower component in ascending order of the loss.
            scores: ``(n, S)`` log-likelihood.
        """
        peak = scores.masked_fill(~lower, -math.inf).argmax(1, keepdim=True)
        return lower & (torch.arange(lower.shape[1], device=lower.device) <= peak)

    def _predict_batch(self, cls_scores, bbox_preds, score_factors, mlvl_priors, metas, cfg, rescale, with_nms) -> list:
        """The ``nms_pre`` anchors of the best score on each level with the scores of all their classes."""
        if not with_nms:
            raise ValueError('PAAHead predicts with NMS only')
        cfg = self.test_cfg if cfg is None else cfg
        limit = TestCfg.read(cfg).nms_pre
        parts = []
        for cls_score, bbox_pred, factor, priors in zip(cls_scores, bbox_preds, score_factors, mlvl_priors):
            scores = flatten_levels([cls_score], self.cls_out_channels).sigmoid()  # (B, P_level, C)
            factor = flatten_levels([factor], 1).sigmoid()
            best = (scores.amax(-1) * factor[..., 0]).sqrt()
            index = best.topk(min(limit, best.shape[1]) if limit > 0 else best.shape[1]).indices  # (B, K)
            pick = lambda values: values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))  # noqa: B023
            parts.append((priors[index], gather_rows(bbox_pred, index, self.reg_dim), pick(scores), pick(factor)))
        priors, preds, scores, factors = (torch.cat(values, 1) for values in zip(*parts))
        boxes = self.bbox_coder.decode(priors, preds, max_shape=image_shapes(metas))
        return [
            self._bbox_post_process(
                InstanceData(bboxes=boxes[b], scores=scores[b], score_factors=factors[b, :, 0]),
                cfg,
                rescale=rescale,
                with_nms=with_nms,
                img_meta=meta,
            )
            for b, meta in enumerate(metas)
        ]

    def _bbox_post_process(
        self, results: InstanceData, cfg, rescale: bool = False, with_nms: bool = True, img_meta: dict | None = None
    ) -> InstanceData:
        """Detections of one image from anchors with ``scores (n, C)`` and ``score_factors (n,)``."""
        if rescale:
            results = rescale_results(results, img_meta)
        scores = (results.scores * results.score_factors[:, None]).sqrt()
        test_cfg = dataclasses.replace(TestCfg.read(cfg), min_bbox_size=-1)
        prior, labels = (scores > test_cfg.score_thr).nonzero(as_tuple=True)
        candidates = InstanceData(bboxes=results.bboxes[prior], scores=scores[prior, labels], labels=labels)
        detections = suppress(candidates, test_cfg, with_nms)
        if self.with_score_voting and len(detections):
            detections.bboxes = self.score_voting(detections, candidates)
        return detections

    def score_voting(self, detections: InstanceData, candidates: InstanceData) -> Tensor:
        """Boxes ``(n, 4)`` of ``detections`` as means of the ``candidates`` of their class (Eq. 9)."""
        overlap = bbox_overlaps(detections.bboxes, candidates.bboxes)
        vote = (detections.labels[:, None] == candidates.labels) & (overlap > 0.01)
        weight = torch.exp(-((1 - overlap) ** 2) / 0.025) * candidates.scores * vote
        return weight @ candidates.bboxes / weight.sum(1, keepdim=True)
