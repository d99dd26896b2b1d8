"""The loss of the dense queries of DDQ-DETR (arXiv:2303.12776, Sec. 3.3).

Letters: L decoder layers, B images, Q queries, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    QueryPairs,
    by_batch,
    constant,
    mean_count,
    share_of_best,
)
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType

JOINTS = 'loss', 'loss_single', 'get_targets', '_get_target_single'


class DDQAuxLoss(nn.Module):
    """Classes weighted by how well they agree with their boxes, of queries of which each object has several.

    Predictions are probabilities ``(B, Q, C)`` and xyxy boxes in pixels ``(B, Q, 4)``.

    Args:
        train_cfg: The ``assigner``, and ``alpha`` and ``beta``, the exponents of its metric.
    """

    def __init__(
        self,
        loss_cls: ConfigType = dict(
            type='QualityFocalLoss', use_sigmoid=True, activated=True, beta=2.0, loss_weight=1.0
        ),
        loss_bbox: ConfigType = dict(type='GIoULoss', loss_weight=2.0),
        train_cfg: ConfigType = dict(assigner=dict(type='TopkHungarianAssigner', topk=8), alpha=1, beta=6),
    ) -> None:
        super().__init__()
        self.train_cfg = train_cfg
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.assigner = TASK_UTILS.build(train_cfg['assigner'])

    @property
    def _exponents(self) -> dict[str, float]:
        return {name: self.train_cfg[name] for name in ('alpha', 'beta') if name in self.train_cfg}

    def of_layers(
        self, groups: Sequence[tuple[Tensor, Tensor]], gt: PaddedGT, metas: list[dict]
    ) -> list[tuple[Tensor, Tensor]]:
        """``(L,)`` losses of classes and boxes of each group ``(L, B, Q, .)``, all of which are matched together."""
        if not all(hasattr(getattr(self, name), 'by_batch') for name in JOINTS):
            return [self._of_each_layer(*group, gt, metas) for group in groups]
        return [self._losses(*pair) for pair in zip(groups, self._targets(groups, gt, metas))]

    def _of_each_layer(self, scores: Tensor, boxes: Tensor, gt: PaddedGT, metas: list[dict]) -> tuple[Tensor, Tensor]:
        truth = [instances.bboxes for instances in gt.instances], [instances.labels for instances in gt.instances]
        layers = [self.loss(*layer, *truth, metas) for layer in zip(scores, boxes)]
        total = lambda name: torch.stack([sum(layer[name]) for layer in layers])
        return total('aux_loss_cls'), total('aux_loss_bbox')

    @torch.no_grad()
    def _targets(self, groups: Sequence[tuple[Tensor, Tensor]], gt: PaddedGT, metas: list[dict]) -> list[DenseTargets]:
        """Targets ``(L * B, Q, ...)`` of every group, with ``metrics`` among their extras."""
        sizes = constant([[meta['img_shape'][1], meta['img_shape'][0]] * 2 for meta in metas], gt.boxes)
        pairs = []
        for scores, boxes in groups:
            layers = len(scores)
            more = dict(sizes=sizes.repeat(layers, 1), metas=metas * layers)
            predictions = (value.detach().float().flatten(0, 1) for value in (scores, boxes))
            pairs.append(QueryPairs(gt.repeated(layers), *predictions, **more))
        if hasattr(self.assigner.assign, 'by_batch'):
            found = self.assigner.assign_groups(pairs, **self._exponents)
        else:
            found = [self._assign_images(*group, pair) for group, pair in zip(groups, pairs)]
        return [self._built(*pair, groups[0][0].shape[-1]) for pair in zip(found, pairs)]

    def _assign_images(self, scores: Tensor, boxes: Tensor, pairs: QueryPairs) -> Assignment:
        """By an own ``assign`` of the assigner, one layer and image at a time."""
        results = []
        for n, image in enumerate(zip(scores.flatten(0, 1), boxes.flatten(0, 1))):
            truth = pairs.gt.instances[n]
            results.append(self.assigner.assign(*image, truth.bboxes, truth.labels, pairs.metas[n], **self._exponents))
        columns = [[getattr(r, name) for r in results] for name in ('gt_inds', 'max_overlaps', 'assign_metrics')]
        inds, overlaps, metrics = map(torch.stack, columns)
        return Assignment(inds, overlaps, dict(assign_metrics=metrics))

    def _built(self, found: Assignment, pairs: QueryPairs, num_classes: int) -> DenseTargets:
        targets = DenseTargets.build(found, pairs.gt, num_classes)
        targets.extras['metrics'] = share_of_best(found.extras['assign_metrics'], found.quality, found, pairs.gt)
        return targets

    def _losses(self, group: tuple[Tensor, Tensor], targets: DenseTargets) -> tuple[Tensor, Tensor]:
        scores, boxes = group
        layers, metric = len(scores), targets.extras['metrics']
        truth = torch.where(targets.pos[..., None], targets.bbox_targets, boxes.detach().flatten(0, 1))
        factor = mean_count(metric.unflatten(0, (layers, -1)).flatten(1).sum(1))
        labels = targets.labels.flatten(), metric.flatten()
        each_cls = self.loss_cls(scores.flatten(0, 2), labels, reduction_override='none')
        each_box = self.loss_bbox(boxes.flatten(0, 2), truth.flatten(0, 1), metric.flatten(), reduction_override='none')
        by_layer = lambda each: each.unflatten(0, (layers, -1)).sum(1) / factor
        return by_layer(each_cls), by_layer(each_box)

    @by_batch
    def loss(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        gt_bboxes: list[Tensor],
        gt_labels: list[Tensor],
        img_metas: list[dict],
        **kwargs: Any,
    ) -> dict:
        """``aux_loss_cls`` and ``aux_loss_bbox`` of one layer, lists by image, divided by the factors of all."""
        targets = self.get_targets(cls_scores, bbox_preds, gt_bboxes, img_metas, gt_labels)
        singles = [self.loss_single(*image) for image in zip(cls_scores, bbox_preds, *targets)]
        loss_cls, loss_bbox, cls_weights, bbox_weights = zip(*singles)
        cls_factor, bbox_factor = mean_count(sum(cls_weights)), mean_count(sum(bbox_weights))
        return dict(
            aux_loss_cls=[loss / cls_factor for loss in loss_cls],
            aux_loss_bbox=[loss / bbox_factor for loss in loss_bbox],
        )

    @by_batch
    def loss_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        alignment_metrics: Tensor,
    ) -> tuple[Tensor, ...]:
        """Losses of classes and boxes of one image, and the sums of their weights."""
        pos = (labels >= 0) & (labels < cls_score.shape[-1])
        truth = torch.where(pos[:, None], bbox_targets, bbox_pred.detach())
        weight = alignment_metrics * pos
        loss_cls = self.loss_cls(cls_score, (labels, alignment_metrics), label_weights, avg_factor=1.0)
        loss_bbox = self.loss_bbox(bbox_pred, truth, weight=weight, avg_factor=1.0)
        return loss_cls, loss_bbox, alignment_metrics.sum(), weight.sum()

    @by_batch
    def get_targets(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        gt_bboxes_list: list[Tensor],
        img_metas: list[dict],
        gt_labels_list: list[Tensor] | None = None,
        **kwargs: Any,
    ) -> tuple[list[Tensor], ...]:
        """Labels, label weights, box targets and metrics of one layer, lists by image."""
        images = list(zip(cls_scores, bbox_preds, gt_bboxes_list, gt_labels_list, img_metas))
        if not hasattr(self._get_target_single, 'by_batch'):
            return tuple(map(list, zip(*(self._get_target_single(*image)[:4] for image in images))))
        return self._lists(cls_scores, bbox_preds, gt_bboxes_list, gt_labels_list, img_metas)

    @by_batch
    def _get_target_single(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        gt_bboxes: Tensor,
        gt_labels: Tensor,
        img_meta: dict,
        **kwargs: Any,
    ) -> tuple[Tensor, ...]:
        """Labels, label weights, box targets and metrics of one image."""
        lists = self._lists(cls_scores[None], bbox_preds[None], [gt_bboxes], [gt_labels], [img_meta])
        return tuple(images[0] for images in lists)

    def _lists(self, scores: Tensor, boxes: Tensor, gt_bboxes: Sequence, gt_labels: Any, metas: list[dict]) -> tuple:
        truth = [InstanceData(bboxes=box, labels=label) for box, label in zip(gt_bboxes, gt_labels)]
        (found,) = self._targets([(scores[None], boxes[None])], PaddedGT.from_instances(truth), metas)
        values = found.labels, found.label_weights, found.bbox_targets, found.extras['metrics']
        return tuple(map(list, values))
