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
    fixed_instances,
    fixed_suppressed,
    flatten_outputs,
    gather_rows,
    image_detections,
    image_shapes,
    rescale_fields,
    split_by_mixture,
    split_levels,
)
from mmdet.ops.fixed_size import fixed_options, is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps

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

    def loss_by_feat(  # type: ignore[override]  # a third output, as in 3.x
        self, cls_scores, bbox_preds, iou_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        logits, preds, iou_logits = flatten_outputs(
            (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim), (iou_preds, 1)
        )  # (B, P, .)
        num_gt = max(1, *map(len, batch_gt_instances))
        pred, boxes, pos = self._positives(logits, preds, anchors, targets, num_gt)
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

    def _positives(
        self, logits: Tensor, preds: Tensor, anchors: Tensor, targets: DenseTargets, num_gt: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted boxes and their targets ``(B, P, 4)``, and the positives that remain ``(B, P)``."""
        pred = self.bbox_coder.decode(anchors, preds)
        boxes = torch.where(targets.pos[..., None], targets.bbox_targets, pred.detach())
        with torch.no_grad():
            losses = self._ranking_loss(
                logits.flatten(0, 1), pred.flatten(0, 1), targets.labels.flatten(), boxes.flatten(0, 1)
            )
            return pred, boxes, self._reassign(losses.view_as(targets.labels), targets, num_gt)

    def get_pos_loss(
        self,
        anchors: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        label: Tensor,
        label_weight: Tensor,
        bbox_target: Tensor,
        bbox_weight: Tensor,
        pos_inds: Tensor,
    ) -> tuple[Tensor]:
        """Loss of the positives ``pos_inds (n,)`` among the P anchors of one image, ``(n,)``.

        Args:
            cls_score, bbox_pred: ``(P, C)`` logits and ``(P, 4)`` deltas.
            bbox_target: ``(P, 4)`` boxes.
        """
        if not len(pos_inds):
            return (cls_score.new_zeros(0),)
        pred = self.bbox_coder.decode(anchors[pos_inds], bbox_pred[pos_inds])
        loss_cls = self.loss_cls(
            cls_score[pos_inds], label[pos_inds], label_weight[pos_inds], avg_factor=1.0, reduction_override='none'
        )
        loss_bbox = self.loss_bbox(
            pred, bbox_target[pos_inds], bbox_weight[pos_inds].mean(-1), avg_factor=1.0, reduction_override='none'
        )
        return (loss_cls.sum(-1) + loss_bbox,)

    def paa_reassign(
        self,
        pos_losses: Tensor,
        label: Tensor,
        label_weight: Tensor,
        bbox_weight: Tensor,
        pos_inds: Tensor,
        pos_gt_inds: Tensor,
        anchors: list[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Labels ``(P,)``, both weights and the number of positives of one image after the reassignment.

        Args:
            pos_losses, pos_inds, pos_gt_inds: Loss, place and ground truth of the n positives before it, ``(n,)``.
            anchors: ``(P_level, 4)`` of each level.
        """
        if not len(pos_inds):
            return label, label_weight, bbox_weight, 0
        gt_inds = torch.zeros_like(label).scatter(0, pos_inds, pos_gt_inds + 1)[None]
        losses = label_weight.new_zeros(1, len(label)).scatter(1, pos_inds[None], pos_losses[None])
        targets = DenseTargets(
            label[None],
            label_weight[None],
            bbox_weight[None],
            bbox_weight[None],
            pos=gt_inds > 0,
            avg_factor=label_weight.new_tensor(1.0),
            gt_inds=gt_inds,
            level_sizes=[len(level) for level in anchors],
        )
        pos = self._reassign(losses, targets, int(pos_gt_inds.max()) + 1)[0]
        dropped = (gt_inds[0] > 0) & ~pos
        label = label.masked_fill(dropped, self.num_classes)
        return label, label_weight, bbox_weight.masked_fill(dropped[:, None], 0), int(pos.sum())

    def gmm_separation_scheme(self, gmm_assignment, scores, pos_inds_gmm: Tensor) -> tuple[Tensor, Tensor]:
        """The positives and the ignored among the candidates ``pos_inds_gmm (n,)`` of one ground truth.

        Args:
            gmm_assignment, scores: ``(n,)`` component, 0 the lower one, and log-likelihood, in ascending order of the
                loss.
        """
        lower, scores = torch.as_tensor(gmm_assignment) == 0, torch.as_tensor(scores)
        kept = self._lower_part(lower[None], scores[None])[0].to(pos_inds_gmm.device)
        return pos_inds_gmm[kept], pos_inds_gmm.new_empty(0)

    def score_voting(
        self, det_bboxes: Tensor, det_labels: Tensor, mlvl_bboxes: Tensor, mlvl_nms_scores: Tensor, score_thr: float
    ) -> tuple[Tensor, Tensor]:
        """Detections ``(n, 5)`` whose boxes are means of the boxes around them, and their labels, class by class.

        Args:
            mlvl_bboxes, mlvl_nms_scores: ``(P, 4)`` and ``(P, C)``, from which the detections were drawn.
        """
        prior, labels = (mlvl_nms_scores[:, : self.num_classes] > score_thr).nonzero(as_tuple=True)
        candidates = InstanceData(bboxes=mlvl_bboxes[prior], scores=mlvl_nms_scores[prior, labels], labels=labels)
        order = det_labels.argsort(stable=True)
        boxes, det_labels = det_bboxes[order], det_labels[order]
        if len(boxes):
            boxes = torch.cat(
                [self._vote(InstanceData(bboxes=boxes[:, :4], labels=det_labels), candidates), boxes[:, 4:]], 1
            )
        return boxes, det_labels

    def _ranking_loss(self, logits: Tensor, pred: Tensor, labels: Tensor, boxes: Tensor) -> Tensor:
        """Loss ``(n,)`` by which anchors are ranked (Eq. 7): of the class and of the decoded box."""
        loss_cls = self.loss_cls(logits, labels, avg_factor=1.0, reduction_override='none')
        loss_bbox = self.loss_bbox(pred, boxes, avg_factor=1.0, reduction_override='none')
        return loss_cls.sum(-1) + loss_bbox

    def _reassign(self, losses: Tensor, targets: DenseTargets, num_gt: int) -> Tensor:
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
            kept[fit] = self._lower_part(lower & valid[fit], scores)
        return torch.zeros_like(kept).scatter(1, order, kept)

    def _lower_part(self, lower: Tensor, scores: Tensor) -> Tensor:
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
        if is_fixed_size():
            return [self._fixed_results(boxes, (scores * factors).sqrt(), TestCfg.read(cfg))]
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

    def _fixed_results(self, boxes: Tensor, scores: Tensor, test_cfg: TestCfg) -> InstanceData:
        """The one result of a batch, from boxes ``(B, K, 4)`` and scores ``(B, K, C)``."""
        top, index = scores.flatten(1).topk(min(fixed_options().candidates, scores[0].numel()))
        anchor, labels = index // self.num_classes, index % self.num_classes
        fields = dict(bboxes=boxes.gather(1, anchor[..., None].expand(-1, -1, 4)), scores=top, labels=labels)
        valid, options = top > test_cfg.score_thr, dict(test_cfg.nms or {})
        found = fixed_instances(*fixed_suppressed(fields, valid, options, 'labels', test_cfg.max_per_img))
        if self.with_score_voting:
            of_labels = found.labels.clamp(min=0)[:, None].expand(-1, scores.shape[1], -1)  # (B, K, M)
            votes = scores.gather(2, of_labels).transpose(1, 2)
            votes = votes * (votes > test_cfg.score_thr)
            voted = _mean_by_overlap(bbox_overlaps(found.bboxes, boxes), votes, boxes)
            found.bboxes = torch.where(found.labels[..., None] >= 0, voted, found.bboxes)
        return found

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
            detections.bboxes = self._vote(detections, InstanceData(**candidates))
        return detections

    def _vote(self, detections: InstanceData, candidates: InstanceData) -> Tensor:
        """Boxes ``(n, 4)`` of ``detections`` as means of the ``candidates`` of their class (Eq. 9)."""
        overlap = bbox_overlaps(detections.bboxes, candidates.bboxes)
        votes = candidates.scores * (detections.labels[:, None] == candidates.labels)
        return _mean_by_overlap(overlap, votes, candidates.bboxes)


def _mean_by_overlap(overlap: Tensor, votes: Tensor, boxes: Tensor) -> Tensor:
    """Means ``(..., n, 4)`` of boxes ``(..., K, 4)`` by their overlaps and votes ``(..., n, K)``."""
    weight = torch.exp(-((1 - overlap) ** 2) / 0.025) * votes * (overlap > 0.01)
    return weight @ boxes / weight.sum(-1, keepdim=True)
