"""Heads of detectors with queries: DETR's, Conditional DETR's and DAB-DETR's.

Letters: L decoder layers, B images, Q queries, C classes, D channels of a query, K detections.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModule, bias_init_with_prob, constant_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserRuntimeError, UserValueError
from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    QueryOutputs,
    by_batch,
    constant,
    fixed_instances,
    float_outputs,
    in_float32,
    joined,
    layer_losses,
    mean_count,
    parted,
    rescaled_fields,
    unpack_gt_instances,
)
from mmdet.models.layers.mlp import FFN, MLP
from mmdet.models.layers.transformer.utils import inverse_sigmoid
from mmdet.models.losses import IoUAwareBCELoss, MatchabilityAwareLoss, QualityFocalLoss, VarifocalLoss
from mmdet.models.task_modules.joints import match_groups
from mmdet.ops.fixed_size import is_at_hand, is_fixed_size
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps
from mmdet.utils import ConfigType, InstanceList, OptInstanceList, OptMultiConfig

from . import query_joints

Losses = tuple[Tensor, ...]
OF_ALL_CLASSES = IoUAwareBCELoss, MatchabilityAwareLoss, VarifocalLoss  # whose targets are qualities of each class


def image_sizes(metas: Sequence[dict], like: Tensor) -> Tensor:
    """``(B, 4)`` width, height, width, height of the images without their padding."""
    return constant([[meta['img_shape'][1], meta['img_shape'][0]] * 2 for meta in metas], like)


def by_layer(value: Tensor, layers: int) -> Tensor:
    """``(L, B, Q, ...)`` of ``(L * B, Q, ...)``."""
    return value.unflatten(0, (layers, -1))


def in_each(mask: Tensor) -> Tensor:
    """``(L,)`` how many of ``mask (L, B, Q)`` are set."""
    return mask.flatten(1).sum(1).float()


def true_boxes(boxes: Tensor, targets: DenseTargets) -> Tensor:
    """``(L, B, Q, 4)`` normalised; off the positives the predicted box, so that no loss sees a pair that means
    nothing."""
    inside = by_layer(targets.pos, len(boxes))[..., None]
    return torch.where(inside, by_layer(targets.bbox_targets, len(boxes)), boxes.detach())


def with_boxes(boxes: Tensor, targets: DenseTargets) -> tuple[Tensor, DenseTargets]:
    """Boxes and targets ``(L, B, K, ...)`` of the queries that learn a box, on a CPU, where their number is known
    without a wait; elsewhere of all queries."""
    if not is_at_hand(boxes) or not boxes.numel():
        return boxes, targets
    used = targets.bbox_weights.any(-1)
    slots = used.byte().topk(max(1, int(used.sum(1).max())))[1][..., None]
    at_slots = lambda value: value.gather(1, slots.expand(-1, -1, value.shape[-1]))
    values = {name: at_slots(getattr(targets, name)) for name in ('bbox_targets', 'bbox_weights')}
    values['pos'] = at_slots(targets.pos[..., None])[..., 0]
    return by_layer(at_slots(boxes.flatten(0, 1)), len(boxes)), replace(targets, **values)


def overlaps_with_truth(group: QueryOutputs, targets: DenseTargets) -> Tensor:
    """``(L, B, Q)`` IoU of the positives with their ground truths, 0 elsewhere, without gradient."""
    boxes = group.boxes.detach()
    found, truth = (bbox_cxcywh_to_xyxy(x).flatten(0, 2) for x in (boxes, true_boxes(boxes, targets)))
    pos = by_layer(targets.pos, len(group.boxes))
    return torch.where(pos, bbox_overlaps(found, truth, is_aligned=True).view(pos.shape), 0.0)


@MODELS.register_module()
class DETRHead(BaseModule):
    """Class and box of each query (DETR, arXiv:2005.12872, Sec. 3.1).

    Boxes are cx, cy, w, h in parts of the image without its padding. All decoder layers, of all images, are matched at
    once and have their losses at once.

    Args:
        num_reg_fcs: Layers of the box branch before its last.
        sync_cls_avg_factor: Whether the normaliser of the classification is averaged over the processes.
        loss_cls: May have ``bg_cls_weight``, the weight of the background, where it is by softmax.
        train_cfg: Has the ``assigner``.
        test_cfg: Has ``max_per_img``.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int = 256,
        num_reg_fcs: int = 2,
        sync_cls_avg_factor: bool = False,
        loss_cls: ConfigType = dict(
            type='CrossEntropyLoss',
            bg_cls_weight=0.1,
            use_sigmoid=False,
            loss_weight=1.0,
            class_weight=1.0,
        ),
        loss_bbox: ConfigType = dict(type='L1Loss', loss_weight=5.0),
        loss_iou: ConfigType = dict(type='GIoULoss', loss_weight=2.0),
        train_cfg: ConfigType = dict(
            assigner=dict(
                type='HungarianAssigner',
                match_costs=[
                    dict(type='ClassificationCost', weight=1.0),
                    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                    dict(type='IoUCost', iou_mode='giou', weight=2.0),
                ],
            )
        ),
        test_cfg: ConfigType = dict(max_per_img=100),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.bg_cls_weight = 0
        self.sync_cls_avg_factor = sync_cls_avg_factor
        loss_cls = copy.copy(loss_cls)
        class_weight = loss_cls.get('class_weight')
        if class_weight is not None and type(self) is DETRHead:
            if not isinstance(class_weight, (float, int)):
                raise UserValueError(f'class_weight of DETRHead must be a number, got {class_weight!r}')
            background = loss_cls.pop('bg_cls_weight', class_weight)
            loss_cls['class_weight'] = [class_weight] * num_classes + [background]
            self.bg_cls_weight = background
        if train_cfg:
            if 'assigner' not in train_cfg:
                raise UserValueError("train_cfg of a head with queries needs an 'assigner'")
            if train_cfg.get('sampler') is not None:
                raise UserRuntimeError('a head with queries takes no sampler')
            self.assigner = TASK_UTILS.build(train_cfg['assigner'])
        self.num_classes = num_classes
        self.embed_dims = embed_dims
        self.num_reg_fcs = num_reg_fcs
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_iou = MODELS.build(loss_iou)
        self.cls_out_channels = num_classes if self.loss_cls.use_sigmoid else num_classes + 1
        self._init_layers()

    def _init_layers(self) -> None:
        self.fc_cls = nn.Linear(self.embed_dims, self.cls_out_channels)
        self.activate = nn.ReLU()
        self.reg_ffn = FFN(self.embed_dims, self.embed_dims, self.num_reg_fcs, add_identity=False)
        self.fc_reg: Any = nn.Linear(self.embed_dims, 4)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(L, B, Q, cls_out_channels)`` and boxes ``(L, B, Q, 4)`` of ``(L, B, Q, D)``."""
        return self.fc_cls(hidden_states), self._box_logits(hidden_states).sigmoid()

    def _box_logits(self, hidden_states: Tensor) -> Tensor:
        return self.fc_reg(self.activate(self.reg_ffn(hidden_states)))

    # --------------------------------------------------------------------------------------------- training

    def loss(self, hidden_states: Tensor, batch_data_samples: Sequence) -> dict:
        """Losses of what the decoder gave, ``(L, B, Q, D)``."""
        return self._loss_of(self(hidden_states), batch_data_samples)

    def _loss_of(self, outs: Any, batch_data_samples: Sequence) -> dict:
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        return self.loss_by_feat(*(*outs, gt_instances, metas))

    def loss_by_feat(
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """Losses of ``(L, B, Q, cls_out_channels)`` and ``(L, B, Q, 4)``: of the last layer, and ``d0.`` and so on of
        those before."""
        gt = PaddedGT.from_instances(batch_gt_instances)
        group = QueryOutputs(all_layers_cls_scores, all_layers_bbox_preds, gt)
        return self._named(self._losses([group], batch_img_metas)[0])

    @staticmethod
    def _named(losses: Losses, kind: str = '') -> dict:
        names = f'{kind}loss_cls', f'{kind}loss_bbox', f'{kind}loss_iou'
        layers = list(zip(*(loss.unbind() for loss in losses)))
        named = dict(zip(names, layers[-1]))
        for index, layer in enumerate(layers[:-1]):
            named.update({f'd{index}.{name}': value for name, value in zip(names, layer)})
        return named

    @by_batch
    def loss_by_feat_single(
        self, cls_scores: Tensor, bbox_preds: Tensor, batch_gt_instances: InstanceList, batch_img_metas: list[dict]
    ) -> Losses:
        """Classification, L1 and IoU loss of one layer, ``(B, Q, .)``."""
        group = QueryOutputs(cls_scores[None], bbox_preds[None], PaddedGT.from_instances(batch_gt_instances))
        return tuple(loss[0] for loss in self._batched_losses([group], batch_img_metas)[0])

    def _losses(self, groups: Sequence[QueryOutputs], metas: list[dict]) -> list[Losses]:
        """Losses ``(L,)`` of every group of queries, all of which are matched together."""
        if not hasattr(self.loss_by_feat_single, 'by_batch'):
            return [query_joints.losses_of_each_layer(self, group, metas) for group in groups]
        return self._batched_losses(groups, metas)

    def _batched_losses(self, groups: Sequence[QueryOutputs], metas: list[dict]) -> list[Losses]:
        groups, layers = joined(float_outputs(groups))
        if hasattr(self.get_targets, 'by_batch') and hasattr(self._get_targets_single, 'by_batch'):
            targets = self._match(groups, metas)
        else:
            targets = [query_joints.targets_of_each_layer(self, group, metas) for group in groups]
        return parted([self._losses_of(*pair, metas) for pair in zip(groups, targets)], layers)

    @torch.no_grad()
    def _match(self, groups: Sequence[QueryOutputs], metas: list[dict]) -> list[DenseTargets]:
        """Targets ``(L * B, Q, ...)`` of every group; box targets are normalised."""
        sizes = image_sizes(metas, groups[0].boxes)
        pairs = [group.pairs(sizes, metas) for group in groups]
        assignments = match_groups(self.assigner, pairs)
        return [self._targets_of(found, pair.gt, pair.sizes) for found, pair in zip(assignments, pairs)]

    def _targets_of(self, found: Assignment, gt: PaddedGT, sizes: Tensor) -> DenseTargets:
        """Targets of an assignment; ``sizes (N, 4)`` as :func:`image_sizes` has them."""
        return DenseTargets.build(found, gt.normalized(sizes), self.num_classes)

    def _losses_of(self, group: QueryOutputs, targets: DenseTargets, metas: list[dict]) -> Losses:
        return self._class_losses(group, targets), *self._box_losses(group, targets, metas)

    def _class_losses(self, group: QueryOutputs, targets: DenseTargets) -> Tensor:
        layers = len(group.scores)
        pos, weights = by_layer(targets.pos, layers), by_layer(targets.label_weights, layers)
        factor = self._class_factor(pos, weights)
        labels = by_layer(targets.labels, layers)
        truth: Tensor | tuple = labels
        if isinstance(self.loss_cls, (QualityFocalLoss, *OF_ALL_CLASSES)):
            truth = self._quality_targets(labels, overlaps_with_truth(group, targets))
        return layer_losses(self.loss_cls, group.scores, truth, weights, factor)

    def _class_factor(self, pos: Tensor, weights: Tensor) -> Tensor:
        """``(L,)`` what the sums of class losses are divided by, of ``(L, B, Q)`` positives and weights."""
        factor = in_each(pos) + in_each((weights > 0) & ~pos) * self.bg_cls_weight
        return mean_count(factor) if self.sync_cls_avg_factor else factor.clamp(min=1)

    def _box_losses(self, group: QueryOutputs, targets: DenseTargets, metas: list[dict]) -> tuple[Tensor, Tensor]:
        num_pos = mean_count(in_each(by_layer(targets.pos, len(group.boxes))))
        boxes, targets = with_boxes(group.boxes, targets)
        truth, weights = true_boxes(boxes, targets), by_layer(targets.bbox_weights, len(boxes))
        sizes = image_sizes(metas, boxes)[:, None]
        corners, true_corners = bbox_cxcywh_to_xyxy(boxes) * sizes, bbox_cxcywh_to_xyxy(truth) * sizes
        return (
            layer_losses(self.loss_bbox, boxes, truth, weights, num_pos),
            layer_losses(self.loss_iou, corners, true_corners, weights.mean(-1), num_pos),
        )

    def _quality_targets(self, labels: Tensor, quality: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """What a loss that knows the IoU takes, of ``(L, B, Q)`` labels and IoU."""
        if isinstance(self.loss_cls, OF_ALL_CLASSES):
            classes = torch.arange(self.num_classes, device=labels.device)
            least = torch.finfo(quality.dtype).tiny  # tells a positive that meets nothing from a negative
            return torch.where(labels[..., None] == classes, quality.clamp(min=least)[..., None], 0.0)
        return labels, quality

    @by_batch
    def get_targets(
        self,
        cls_scores_list: list[Tensor],
        bbox_preds_list: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
    ) -> query_joints.QueryTargets | tuple:
        """Targets of one layer, of ``[(Q, .)]`` by image."""
        if len({len(scores) for scores in cls_scores_list}) > 1:  # images without the queries that take no part
            singles = zip(cls_scores_list, bbox_preds_list, batch_gt_instances, batch_img_metas)
            images = [self._get_targets_single(*image)[:4] for image in singles]
            return query_joints.lists_of_images(images, self.num_classes)
        gt = PaddedGT.from_instances(batch_gt_instances)
        group = QueryOutputs(torch.stack(list(cls_scores_list))[None], torch.stack(list(bbox_preds_list))[None], gt)
        if not hasattr(self._get_targets_single, 'by_batch'):
            singles = zip(group.scores[0], group.boxes[0], batch_gt_instances, batch_img_metas)
            images = [self._get_targets_single(*image)[:4] for image in singles]
            return query_joints.QueryTargets.of(query_joints.targets_of_images(images, self.num_classes))
        return query_joints.QueryTargets.of(self._match(float_outputs([group]), batch_img_metas)[0])

    @by_batch
    def _get_targets_single(
        self, cls_score: Tensor, bbox_pred: Tensor, gt_instances: InstanceData, img_meta: dict
    ) -> tuple[Tensor, ...]:
        """Labels, their weights, box targets, their weights, and indices of positives and negatives of one image."""
        group = QueryOutputs(cls_score[None, None], bbox_pred[None, None], PaddedGT.from_instances([gt_instances]))
        return query_joints.image_targets(self._match(float_outputs([group]), [img_meta])[0])

    # -------------------------------------------------------------------------------------------- inference

    def loss_and_predict(self, hidden_states: Tensor, batch_data_samples: Sequence) -> tuple[dict, InstanceList]:
        """Losses, and detections of the same outputs."""
        return self._loss_and_predict_of(self(hidden_states), batch_data_samples)

    def _loss_and_predict_of(self, outs: Any, samples: Sequence) -> tuple[dict, InstanceList]:
        metas = [sample.metainfo for sample in samples]
        return self._loss_of(outs, samples), in_float32(self.predict_by_feat)(*outs, batch_img_metas=metas)

    def predict(self, hidden_states: Tensor, batch_data_samples: Sequence, rescale: bool = True) -> InstanceList:
        """Detections of each image by the last layer; in pixels of the original image if ``rescale``."""
        return self._predict_of(self(hidden_states[-1:]), batch_data_samples, rescale)

    def _predict_of(self, outs: Any, samples: Sequence, rescale: bool) -> InstanceList:
        metas = [sample.metainfo for sample in samples]
        return in_float32(self.predict_by_feat)(*outs, batch_img_metas=metas, rescale=rescale)

    @torch.no_grad()
    def predict_by_feat(
        self,
        layer_cls_scores: Tensor,
        layer_bbox_preds: Tensor,
        batch_img_metas: list[dict],
        rescale: bool = True,
    ) -> InstanceList:
        """Detections of the last of L layers: ``bboxes (K, 4)``, ``scores (K,)`` and ``labels (K,)``, best first.

        K is ``max_per_img``, or less where that many do not exist; nothing is suppressed.
        """
        outputs = layer_cls_scores[-1], layer_bbox_preds[-1], batch_img_metas, rescale
        if not hasattr(self._predict_by_feat_single, 'by_batch'):
            return query_joints.detections_of_each_image(self, *outputs)
        return self._detections(*outputs)

    @by_batch
    def _predict_by_feat_single(
        self, cls_score: Tensor, bbox_pred: Tensor, img_meta: dict, rescale: bool = True
    ) -> InstanceData:
        """Detections of one image, ``(Q, .)``."""
        return self._detections(cls_score[None], bbox_pred[None], [img_meta], rescale)[0]

    def _detections(self, logits: Tensor, boxes: Tensor, metas: Sequence[dict], rescale: bool) -> InstanceList:
        if self.loss_cls.use_sigmoid:
            return self._best(logits.sigmoid(), boxes, metas, rescale)
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        scores, queries = scores.topk(self._limit(boxes.shape[1], scores.shape[1]))
        return self._found(scores, labels.gather(1, queries), queries, boxes, metas, rescale)

    def _limit(self, queries: int, candidates: int) -> int:
        return min((self.test_cfg or {}).get('max_per_img', queries), candidates)

    def _best(self, scores: Tensor, boxes: Tensor, metas: Sequence[dict], rescale: bool) -> InstanceList:
        """The best pairs of query and class, of ``scores (B, Q, C)``; a query may be several classes."""
        classes, flat = scores.shape[-1], scores.flatten(1)
        scores, index = flat.topk(self._limit(boxes.shape[1], flat.shape[1]))
        return self._found(scores, index % classes, index // classes, boxes, metas, rescale)

    def _found(
        self,
        scores: Tensor,
        labels: Tensor,
        queries: Tensor,
        boxes: Tensor,
        metas: Sequence[dict],
        rescale: bool,
    ) -> InstanceList:
        """Detections ``(B, K)`` at ``queries``, whose boxes are ``(B, Q, 4)``."""
        boxes = bbox_cxcywh_to_xyxy(boxes.gather(1, queries[..., None].expand(-1, -1, 4)))
        sizes = image_sizes(metas, boxes)[:, None]
        boxes = (boxes * sizes).clamp(min=0).minimum(sizes)
        if rescale:
            boxes = rescaled_fields(dict(bboxes=boxes), metas)['bboxes']
        if is_fixed_size():
            return [fixed_instances(dict(bboxes=boxes, scores=scores, labels=labels))]
        return [InstanceData(bboxes=b, scores=s, labels=n) for b, s, n in zip(boxes, scores, labels)]


@MODELS.register_module()
class ConditionalDETRHead(DETRHead):
    """Boxes are predicted relative to reference points (Conditional DETR, arXiv:2108.06152, Eq. 2)."""

    def init_weights(self) -> None:
        super().init_weights()
        if self.loss_cls.use_sigmoid:
            nn.init.constant_(self.fc_cls.bias, bias_init_with_prob(0.01))

    def _reference_logits(self, references: Tensor) -> Tensor:
        return inverse_sigmoid(references)

    def forward(self, hidden_states: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """As DETR's.

        Args:
            references: ``(B, Q, 2)`` points, or boxes of any leading shape that fits, in parts of the image.
        """
        boxes, start = self._box_logits(hidden_states), self._reference_logits(references)
        start = nn.functional.pad(start, (0, 4 - start.shape[-1]))
        return self.fc_cls(hidden_states), (boxes + start).sigmoid()

    def loss(self, hidden_states: Tensor, references: Tensor, batch_data_samples: Sequence) -> dict:  # type: ignore[override]
        """Losses of what the decoder gave."""
        return self._loss_of(self(hidden_states, references), batch_data_samples)

    def loss_and_predict(  # type: ignore[override]
        self, hidden_states: Tensor, references: Tensor, batch_data_samples: Sequence
    ) -> tuple[dict, InstanceList]:
        """Losses, and detections of the same outputs."""
        return self._loss_and_predict_of(self(hidden_states, references), batch_data_samples)

    def predict(  # type: ignore[override]
        self, hidden_states: Tensor, references: Tensor, batch_data_samples: Sequence, rescale: bool = True
    ) -> InstanceList:
        """Detections of each image by the last layer."""
        return self._predict_of(self(hidden_states[-1:], references), batch_data_samples, rescale)


@MODELS.register_module()
class DABDETRHead(ConditionalDETRHead):
    """Boxes are predicted relative to the anchors of each layer (DAB-DETR, arXiv:2201.12329)."""

    def _init_layers(self) -> None:
        self.fc_cls = nn.Linear(self.embed_dims, self.cls_out_channels)
        self.fc_reg = MLP(self.embed_dims, self.embed_dims, 4, 3)

    def init_weights(self) -> None:
        super().init_weights()
        constant_init(self.fc_reg.layers[-1], 0.0, bias=0.0)

    def _box_logits(self, hidden_states: Tensor) -> Tensor:
        return self.fc_reg(hidden_states)

    def _reference_logits(self, references: Tensor) -> Tensor:
        return inverse_sigmoid(references, eps=1e-3)

    def predict(  # type: ignore[override]
        self, hidden_states: Tensor, references: Tensor, batch_data_samples: Sequence, rescale: bool = True
    ) -> InstanceList:
        """Detections of each image by the last layer.

        Args:
            references: ``(L, B, Q, 4)``.
        """
        return super().predict(hidden_states, references[-1:], batch_data_samples, rescale)
