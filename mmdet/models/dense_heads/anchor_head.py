"""Heads that classify and refine anchors.

Letters: B images, P anchors of all levels, A anchors per location, C classes.
"""

from __future__ import annotations

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    Priors,
    as_level,
    by_batch,
    flatten_levels,
    map_sizes,
    multi_apply,
    overridden,
    rows,
    split_levels,
)
from mmdet.models.task_modules.assigners import assign_each
from mmdet.models.task_modules.samplers import PseudoSampler, sample_masks
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList, OptMultiConfig

from .base_dense_head import BaseDenseHead


@MODELS.register_module()
class AnchorHead(BaseDenseHead):
    """One classification and one box convolution on every level (the head of RPN and SSD).

    Args:
        reg_decoded_bbox: Whether the box loss compares boxes rather than deltas, as IoU losses need.

    Joints that research code overrides: :meth:`forward_single`, :meth:`get_anchors`, :meth:`get_targets`,
    :meth:`_get_targets_single`, :meth:`loss_by_feat_single`, :meth:`loss_by_feat`.
    """

    anchors_in_targets = False
    """Whether the target methods return the anchors first, as those of ATSS and its kin do in MMDetection."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        anchor_generator: ConfigType = dict(
            type='AnchorGenerator', scales=[8, 16, 32], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
        ),
        bbox_coder: ConfigType = dict(
            type='DeltaXYWHBBoxCoder',
            clip_border=True,
            target_means=(0.0, 0.0, 0.0, 0.0),
            target_stds=(1.0, 1.0, 1.0, 1.0),
        ),
        reg_decoded_bbox: bool = False,
        loss_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox: ConfigType = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = dict(type='Normal', layer='Conv2d', std=0.01),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes, self.in_channels, self.feat_channels = num_classes, in_channels, feat_channels
        self.use_sigmoid_cls = loss_cls.get('use_sigmoid', False)
        self.cls_out_channels = num_classes if self.use_sigmoid_cls else num_classes + 1
        if self.cls_out_channels <= 0:
            raise ValueError(f'num_classes={num_classes} is too small')
        self.reg_decoded_bbox = reg_decoded_bbox
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        self.reg_dim = self.bbox_coder.encode_size
        self.loss_cls, self.loss_bbox = MODELS.build(loss_cls), MODELS.build(loss_bbox)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg['assigner'])
            sampler = train_cfg.get('sampler')
            self.sampler = (
                PseudoSampler(context=self)
                if sampler is None
                else TASK_UTILS.build(sampler, default_args=dict(context=self))
            )
        self.fp16_enabled = False
        self.prior_generator = TASK_UTILS.build(anchor_generator)
        self.num_base_priors = self.prior_generator.num_base_priors[0]
        self._init_layers()

    @property
    def num_anchors(self) -> int:
        return self.num_base_priors

    @property
    def anchor_generator(self):
        return self.prior_generator

    def _init_layers(self) -> None:
        self.conv_cls = nn.Conv2d(self.in_channels, self.num_base_priors * self.cls_out_channels, 1)
        self.conv_reg = nn.Conv2d(self.in_channels, self.num_base_priors * self.reg_dim, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits ``(B, A * C, H, W)`` and box predictions ``(B, A * reg_dim, H, W)`` of one level."""
        return self.conv_cls(x), self.conv_reg(x)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        return multi_apply(self.forward_single, x)

    def get_anchors(
        self, featmap_sizes: list[tuple], batch_img_metas: list[dict], device: torch.device | str = 'cuda'
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Anchors and valid flags, lists by image of lists by level: references to one cached grid."""
        generator = self.prior_generator
        levels = [get_box_tensor(level) for level in generator.grid_priors(featmap_sizes, device=device)]
        pad_shapes = [meta['pad_shape'] for meta in batch_img_metas]
        valid = generator.batch_valid_flags(featmap_sizes, pad_shapes, device)
        strides = [stride[0] for stride in generator.strides]
        return Priors(torch.cat(levels)[None], valid, [len(level) for level in levels], strides).as_lists()

    def get_targets(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
        unmap_outputs: bool = True,
        return_sampling_results: bool = False,
    ) -> DenseTargets | tuple:
        """Targets of all anchors; unpacks as labels, label weights, box targets, box weights by level, avg_factor."""
        priors = self._inside(Priors.from_lists(anchor_list, valid_flag_list), batch_img_metas)
        if overridden(self, '_get_targets_single'):
            return self._targets_of_each(
                priors, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore, return_sampling_results
            )
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        assignment = assign_each(self.assigner, priors, batch_gt_instances, batch_gt_instances_ignore, gt)
        targets = self._build_targets(priors, assignment, gt)
        if not return_sampling_results:
            return targets
        single = (
            Assignment(inds[None], None if assignment.quality is None else assignment.quality[b : b + 1])
            for b, inds in enumerate(assignment.gt_inds)
        )
        negative = (targets.label_weights > 0) & ~targets.pos
        results = [
            self._sampling_result(*image)
            for image in zip(priors.expanded(), targets.pos, negative, single, batch_gt_instances)
        ]
        return (*targets, results)

    def _inside(self, priors: Priors, metas: list[dict]) -> Priors:
        """Leave out anchors that reach ``train_cfg.allowed_border`` pixels over the picture; none if negative."""
        border = self.train_cfg.get('allowed_border', -1)
        if border < 0:
            return priors
        boxes = priors.expanded()
        inside = []
        for box, meta in zip(boxes, metas):
            height, width = meta['img_shape'][:2]
            x1, y1, x2, y2 = box.unbind(-1)
            inside.append((x1 >= -border) & (y1 >= -border) & (x2 < width + border) & (y2 < height + border))
        return Priors(priors.boxes, priors.valid & torch.stack(inside), priors.level_sizes, priors.strides)

    def _build_targets(self, priors: Priors, assignment: Assignment, gt: PaddedGT) -> DenseTargets:
        pos, neg = sample_masks(self.sampler, priors, assignment, gt)
        targets = DenseTargets.build(
            assignment,
            gt,
            self.num_classes,
            pos=pos,
            neg=neg,
            pos_weight=self.train_cfg.get('pos_weight', -1),
            encode=self._encoder(priors, pos),
            count_negatives=self.sampler.avg_factor_with_neg,
            level_sizes=priors.level_sizes,
        )
        if self.anchors_in_targets:
            targets.anchors = priors.expanded()
        return targets

    def _encoder(self, priors: Priors, pos: Tensor):
        """Maps matched boxes ``(B, P, 4)`` to box targets; None where the boxes are the targets."""
        if self.reg_decoded_bbox:
            return None
        boxes = priors.expanded()
        return lambda matched: self.bbox_coder.encode(boxes, torch.where(pos[..., None], matched, boxes))

    @by_batch
    def _get_targets_single(
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
        level_sizes: list[int] | None = None,
    ) -> tuple:
        """Labels, their weights, box targets, their weights, pos_inds, neg_inds, sampling result of one image.

        The batched path with B = 1.
        """
        ignored = None if gt_instances_ignore is None else [gt_instances_ignore]
        boxes = get_box_tensor(flat_anchors)
        priors = Priors(boxes[None], valid_flags.bool()[None], list(level_sizes or [len(boxes)]))
        priors = self._inside(priors, [img_meta])
        gt = PaddedGT.from_instances([gt_instances], ignored)
        assignment = assign_each(self.assigner, priors, [gt_instances], ignored, gt)
        targets = self._build_targets(priors, assignment, gt)
        pos, neg = targets.pos[0], (targets.label_weights[0] > 0) & ~targets.pos[0]
        return (
            targets.labels[0],
            targets.label_weights[0],
            targets.bbox_targets[0],
            targets.bbox_weights[0],
            pos.nonzero().flatten(),
            neg.nonzero().flatten(),
            self._sampling_result(priors.boxes[0], pos, neg, assignment, gt_instances),
        )

    def _sampling_result(
        self, boxes: Tensor, pos: Tensor, neg: Tensor, assignment: Assignment, gt_instances: InstanceData
    ):
        """The drawn samples of one image as research code knows them."""
        from mmdet.models.core import labels_of
        from mmdet.models.task_modules.assigners import AssignResult
        from mmdet.models.task_modules.samplers import SamplingResult

        gt = PaddedGT.from_instances([gt_instances])
        quality = None if assignment.quality is None else assignment.quality[0]
        result = AssignResult(len(gt_instances), assignment.gt_inds[0], quality, labels_of(assignment, gt)[0])
        return SamplingResult(
            pos.nonzero().flatten(),
            neg.nonzero().flatten(),
            boxes,
            get_box_tensor(gt_instances.bboxes),
            result,
            torch.zeros(len(boxes), dtype=torch.uint8, device=boxes.device),
            avg_factor_with_neg=self.sampler.avg_factor_with_neg,
        )

    def _targets_of_each(self, priors: Priors, gt_instances, metas, ignored, with_sampling: bool):
        """Targets by a ``_get_targets_single`` that a subclass brings."""
        levels = [priors.level_sizes] if self.anchors_in_targets else []
        singles = [
            self._get_targets_single(boxes, valid, *levels, gt_instances[b], metas[b], ignored[b] if ignored else None)
            for b, (boxes, valid) in enumerate(zip(priors.expanded(), priors.valid))
        ]
        values = [list(torch.stack(list(column)).split(priors.level_sizes, 1)) for column in list(zip(*singles))[:-3]]
        results = [single[-1] for single in singles]
        values.append(sum(result.avg_factor for result in results))
        return (*values, results) if with_sampling else tuple(values)

    def loss_by_feat_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        anchors: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        avg_factor: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Class and box loss. Called once, with the whole pyramid as one level.

        Args:
            cls_score: ``(B, C, P, 1)``.
            bbox_pred: ``(B, reg_dim, P, 1)``.
            anchors: ``(B, P, 4)``. The targets begin with ``(B, P)`` too.
        """
        loss_cls = self.loss_cls(
            rows(cls_score, self.cls_out_channels), labels.flatten(), label_weights.flatten(), avg_factor=avg_factor
        )
        pred, target, weight = rows(bbox_pred, self.reg_dim), bbox_targets.flatten(0, 1), bbox_weights.flatten(0, 1)
        if self.reg_decoded_bbox:
            pred = get_box_tensor(self.bbox_coder.decode(anchors.flatten(0, 1), pred))
            target = torch.where(weight > 0, target, pred.detach())  # finite, and no loss, off the positives
        return loss_cls, self.loss_bbox(pred, target, weight, avg_factor=avg_factor)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls`` and ``loss_bbox``, each a list of one tensor, or of one a level where a loss counts."""
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        fields = [
            flatten_levels(cls_scores, self.cls_out_channels),
            flatten_levels(bbox_preds, self.reg_dim),
            anchors,
            targets.labels,
            targets.label_weights,
            targets.bbox_targets,
            targets.bbox_weights,
        ]
        if any(getattr(loss, 'by_level', False) for loss in self.children()):
            parts = zip(*(split_levels(field, targets.level_sizes) for field in fields))
        else:
            parts = [fields]
        loss_cls, loss_bbox = multi_apply(
            lambda scores, preds, *rest: self.loss_by_feat_single(
                as_level(scores), as_level(preds), *rest, avg_factor=targets.avg_factor
            ),
            *zip(*parts),
        )
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox)

    def _anchors_and_targets(
        self, cls_scores: list[Tensor], gt_instances: InstanceList, metas: list[dict], ignored: OptInstanceList
    ) -> tuple[Tensor, DenseTargets]:
        """Anchors ``(B, P, 4)`` and targets of a batch, through the joints."""
        anchor_list, valid_flag_list = self.get_anchors(map_sizes(cls_scores), metas, device=cls_scores[0].device)
        targets = self.get_targets(anchor_list, valid_flag_list, gt_instances, metas, batch_gt_instances_ignore=ignored)
        return Priors.from_lists(anchor_list, valid_flag_list).expanded(), DenseTargets.coerce(targets)


class AnchorsInTargets:
    """Mixin of anchor heads whose target methods return the anchors first, as those of ATSS and its kin do."""

    anchors_in_targets = True

    @by_batch
    def _get_targets_single(
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        num_level_anchors: list[int],
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
    ) -> tuple:
        """As :class:`AnchorHead`'s, with the anchors first."""
        return flat_anchors, *super()._get_targets_single(
            flat_anchors, valid_flags, gt_instances, img_meta, gt_instances_ignore, level_sizes=num_level_anchors
        )
