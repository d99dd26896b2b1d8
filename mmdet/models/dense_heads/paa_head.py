"""Probabilistic anchor assignment (PAA, arXiv:2007.08103).

Letters: B images, P anchors of all levels, G padded ground truths, L levels, K candidates kept of a level, C classes,
S = L * K slots of a ground truth.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import (
    DenseTargets,
    TestCfg,
    by_batch,
    flatten_outputs,
    gather_rows,
    image_detections,
    image_shapes,
    rescale_fields,
    split_by_mixture,
    split_levels,
)
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps

from . import joints
from .anchor_head import AnchorHead
from .atss_head import ATSSHead

COVARIANCES = ('full', 'tied', 'diag', 'spherical')


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
            raise UserValueError(f'covariance_type={covariance_type!r} is none of {", ".join(COVARIANCES)}')
        self.topk, self.with_score_voting, self.covariance_type = topk, score_voting, covariance_type
        super().__init__(*args, **kwargs)

    @by_batch
    def get_targets(self, *args, return_sampling_results: bool = False, **kwargs) -> DenseTargets | tuple:
        """Unpacks as lists by image: labels, label weights, box targets, box weights, positive indices, and the ground
        truth of each positive."""
        targets, results = self._targets_and_samples(*args, with_samples=return_sampling_results, **kwargs)
        lists = joints.ImageTargets.of(targets)
        return (*lists, results) if return_sampling_results else lists

    def loss_by_feat(
        self, cls_scores, bbox_preds, iou_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        logits, preds, iou_logits = flatten_outputs(
            (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim), (iou_preds, 1)
        )  # (B, P, .)
        pred = self.bbox_coder.decode(anchors, preds)
        boxes = torch.where(targets.pos[..., None], targets.bbox_targets, pred.detach())
        with torch.no_grad():
            losses = self.get_pos_loss(
                logits.flatten(0, 1), pred.flatten(0, 1), targets.labels.flatten(), boxes.flatten(0, 1)
            )
            num_gt = max(1, *map(len, batch_gt_instances))
            pos = self.paa_reassign(losses.view_as(targets.labels), targets, num_gt)
        labels = torch.where(pos, targets.labels, self.num_classes)
        weight, num_pos, sizes = pos.to(pred.dtype), pos.sum(), targets.level_sizes
        quality = bbox_overlaps(pred.detach(), boxes, is_aligned=True) * weight
        least = num_pos.clamp(min=len(batch_img_metas))
        return dict(
            loss_cls=self._loss(self.loss_cls, sizes, logits, labels, targets.label_weights, avg_factor=least),
            loss_bbox=self._loss(self.loss_bbox, sizes, pred, boxes, quality, avg_factor=quality.sum()),
            loss_iou=self._loss(
                self.loss_centerness, sizes, iou_logits[..., 0], quality, weight, avg_factor=num_pos.clamp(min=1)
            ),
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

    def _predict_batch(self, cls_scores, bbox_preds, score_factors, priors, metas, cfg, rescale, with_nms) -> list:
        """The ``nms_pre`` anchors of the best score on each level with the scores of all their classes."""
        if not with_nms:
            raise UserValueError('PAAHead predicts with NMS only')
        limit = TestCfg.read(cfg).nms_pre
        levels = split_levels(priors.boxes[0], priors.level_sizes, 0)
        parts = []
        for cls_score, bbox_pred, factor, grid in zip(cls_scores, bbox_preds, score_factors, levels):
            scores, factor = (
                value.sigmoid() for value in flatten_outputs(([cls_score], self.cls_out_channels), ([factor], 1))
            )  # (B, P_level, .)
            best = (scores.amax(-1) * factor[..., 0]).sqrt()
            index = best.topk(min(limit, best.shape[1]) if limit > 0 else best.shape[1]).indices  # (B, K)
            pick = lambda values: values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))  # noqa: B023
            parts.append((grid[index], gather_rows(bbox_pred, index, self.reg_dim), pick(scores), pick(factor)))
        anchors, preds, scores, factors = (torch.cat(values, 1) for values in zip(*parts))
        boxes = self.bbox_coder.decode(anchors, preds, max_shape=image_shapes(metas))
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

    @by_batch
    def _bbox_post_process(
        self, results: InstanceData, cfg, rescale: bool = False, with_nms: bool = True, img_meta: dict | None = None
    ) -> InstanceData:
        """Detections of one image from anchors with ``scores (n, C)`` and ``score_factors (n,)``."""
        anchors = dict(bboxes=results.bboxes)
        if rescale:
            rescale_fields(anchors, img_meta)
        scores = (results.scores * results.score_factors[:, None]).sqrt()
        test_cfg = dataclasses.replace(TestCfg.read(cfg), min_bbox_size=-1)
        prior, labels = (scores > test_cfg.score_thr).nonzero(as_tuple=True)
        candidates = dict(bboxes=anchors['bboxes'][prior], scores=scores[prior, labels], labels=labels)
        detections = image_detections(dict(candidates), test_cfg, None, with_nms)
        if self.with_score_voting and len(detections):
            detections.bboxes = self.score_voting(detections, InstanceData(**candidates))
        return detections

    def score_voting(self, detections: InstanceData, candidates: InstanceData) -> Tensor:
        """Boxes ``(n, 4)`` of ``detections`` as means of the ``candidates`` of their class (Eq. 9)."""
        overlap = bbox_overlaps(detections.bboxes, candidates.bboxes)
        vote = (detections.labels[:, None] == candidates.labels) & (overlap > 0.01)
        weight = torch.exp(-((1 - overlap) ** 2) / 0.025) * candidates.scores * vote
        return weight @ candidates.bboxes / weight.sum(1, keepdim=True)
