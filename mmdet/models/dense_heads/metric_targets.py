"""Heads whose positives are chosen by what they predict, and weighted by a metric of the match.

Letters: B images, P priors of all levels, C classes.
"""

from __future__ import annotations

from typing import Any

from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    Priors,
    by_batch,
    flatten_outputs,
    mean_count,
)
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList

from . import family_joints, joints


class MetricTargets:
    """Mixin before :class:`ATSSHead`: what the targets and losses of RTMDet and TOOD have in common.

    A head says how its outputs become boxes (:meth:`_pixel_boxes`), what the metric of a positive is (:meth:`_metrics`)
    and what its losses are (:meth:`_losses`). Each loss is divided by the sum of its weights over all processes.
    """

    samples_in_targets = False
    """Whether the target methods return the sampling results last."""

    assigner_options: dict[str, Any] = {}  # replaced, never changed
    """Arguments of the assigner beside what it compares."""

    def _pixel_boxes(self, priors: Priors, preds: Tensor) -> Tensor:
        """xyxy boxes ``(B, P, 4)`` in pixels of outputs ``(B, P, 4)``."""
        raise NotImplementedError

    def _metrics(self, assignment: Assignment, gt: PaddedGT) -> Tensor:
        """``(B, P)`` metric of each positive, 0 elsewhere."""
        raise NotImplementedError

    def loss_by_feat(
        self: Any,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls`` and ``loss_bbox``, each a list."""
        return self._losses_and_targets(
            cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )[0]

    def _losses_and_targets(
        self: Any,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        gt_instances: InstanceList,
        metas: list[dict],
        ignored: OptInstanceList,
    ) -> tuple[dict, DenseTargets, Priors, PaddedGT]:
        """The losses, and what they were computed with."""
        if hasattr(self.get_anchors, 'by_batch'):
            priors = self._priors(cls_scores, metas)
        else:
            priors = joints.own_priors(self, cls_scores, metas)
        logits, preds = flatten_outputs((cls_scores, self.cls_out_channels), (bbox_preds, 4))
        anchors = priors.expanded()
        boxes, gt = self._pixel_boxes(priors, preds), PaddedGT.from_instances(gt_instances, ignored)
        if hasattr(self.get_targets, 'by_batch'):
            targets = self._metric_targets(logits, boxes, priors, gt, metas)
        else:
            targets = family_joints.metric_targets(self, logits, boxes, priors, gt, metas)
        if hasattr(self.loss_by_feat_single, 'by_batch'):
            values = tuple([value] for value in self._losses(logits, boxes, anchors, targets))
        else:
            values = self._single_losses(cls_scores, bbox_preds, boxes, anchors, targets)
        loss_cls, loss_bbox, cls_weights, bbox_weights = values
        cls_total, bbox_total = mean_count(sum(cls_weights)), mean_count(sum(bbox_weights))
        losses = dict(
            loss_cls=[loss / cls_total for loss in loss_cls], loss_bbox=[loss / bbox_total for loss in loss_bbox]
        )
        return losses, targets, priors, gt

    def _metric_targets(
        self: Any, logits: Tensor, boxes: Tensor, priors: Priors, gt: PaddedGT, metas: list[dict]
    ) -> DenseTargets:
        """Targets whose ``extras`` have the ``metrics (B, P)``."""
        self._check_shapes(metas)
        priors = self._inside(priors, metas)
        if not hasattr(self._get_targets_single, 'by_batch'):
            return family_joints.metric_targets_of_each_image(self, logits, boxes, priors, gt, metas)
        return self._match(logits, boxes, priors, gt)[0]

    def _match(
        self: Any, logits: Tensor, boxes: Tensor, priors: Priors, gt: PaddedGT
    ) -> tuple[DenseTargets, Assignment]:
        predictions = dict(scores=logits.detach(), bboxes=boxes.detach())
        assignment = self._assign(self.assigner, priors, gt, predictions, self.assigner_options)
        targets = self._build_targets(priors, assignment, gt)
        targets.extras['metrics'] = self._metrics(assignment, gt)
        return targets, assignment

    @by_batch
    def get_targets(
        self: Any,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
        unmap_outputs: bool = True,
    ) -> DenseTargets:
        """Targets of scores ``(B, P, C)`` and boxes ``(B, P, 4)`` in pixels.

        They unpack as anchors, labels, label weights, box targets and metrics by level.
        """
        priors = joints.priors_from_lists(anchor_list, valid_flag_list)
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        targets = self._metric_targets(cls_scores, bbox_preds, priors, gt, batch_img_metas)
        if self.samples_in_targets and 'sampling_results' not in targets.extras:
            assignment = Assignment(targets.gt_inds)
            targets.extras['sampling_results'] = joints.sampling_results(targets, priors, gt, assignment, self.sampler)
        return family_joints.MetricTargetLists.of(targets, priors.expanded())

    @by_batch
    def _get_targets_single(
        self: Any,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
    ) -> tuple:
        """Anchors, labels, label weights, box targets and metrics of one image."""
        boxes = get_box_tensor(flat_anchors)
        priors = self._inside(Priors(boxes[None], valid_flags.bool()[None], [len(boxes)]), [img_meta])
        gt = PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        targets, assignment = self._match(cls_scores[None], bbox_preds[None], priors, gt)
        values = targets.labels, targets.label_weights, targets.bbox_targets, targets.extras['metrics']
        samples = (
            joints.sampling_results(targets, priors, gt, assignment, self.sampler) if self.samples_in_targets else []
        )
        return flat_anchors, *(value[0] for value in values), *samples
