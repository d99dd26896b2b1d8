"""Heads that classify and refine anchors.

Letters: B images, P anchors of all levels, A anchors per location, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, DenseTargets, PaddedGT, Priors, by_batch, constant, flatten_outputs
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList, OptMultiConfig

from . import joints
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

    matches_in_targets = False
    """Whether they return the ground truth of each positive last, as those of FSAF do; -1 elsewhere."""

    @property
    def encodes_targets(self) -> bool:  # type: ignore[override]  # follows the setting
        return not self.reg_decoded_bbox

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
            raise UserValueError(f'num_classes={num_classes} is too small')
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
        """The old name of ``num_base_priors``."""
        return self.num_base_priors

    @property
    def anchor_generator(self):
        """The old name of ``prior_generator``."""
        return self.prior_generator

    def _init_layers(self) -> None:
        self.conv_cls = nn.Conv2d(self.in_channels, self.num_base_priors * self.cls_out_channels, 1)
        self.conv_reg = nn.Conv2d(self.in_channels, self.num_base_priors * self.reg_dim, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        """Class logits ``(B, A * C, H, W)`` and box predictions ``(B, A * reg_dim, H, W)`` of one level."""
        return self.conv_cls(x), self.conv_reg(x)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls`` and ``loss_bbox``, each a list of one tensor."""
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        outputs = (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim)
        loss_cls, loss_bbox = self._each_loss(outputs, anchors, targets, targets.avg_factor)
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox)

    def _anchors_and_targets(
        self, cls_scores: list[Tensor], gt_instances: InstanceList, metas: list[dict], ignored: OptInstanceList
    ) -> tuple[Tensor, DenseTargets]:
        """Anchors ``(B, P, 4)`` and targets of a batch."""
        if not (hasattr(self.get_anchors, 'by_batch') and hasattr(self.get_targets, 'by_batch')):
            return joints.anchors_and_targets(self, cls_scores, gt_instances, metas, ignored)
        priors = self._priors(cls_scores, metas)
        targets = self._targets(priors, PaddedGT.from_instances(gt_instances, ignored), metas)
        return priors.boxes.expand(len(metas), -1, -1), targets

    def _targets(self, priors: Priors, gt: PaddedGT, metas: list[dict]) -> DenseTargets:
        self._check_shapes(metas)
        priors = self._inside(priors, metas)
        if not hasattr(self._get_targets_single, 'by_batch'):
            return joints.targets_of_each_image(self, priors, gt, metas)
        return self._build_targets(priors, self._assign(self.assigner, priors, gt), gt)

    def get_num_level_anchors_inside(self, num_level_anchors: list[int], inside_flags: Tensor) -> list[int]:
        """How many anchors of each level the flags ``(P,)`` keep."""
        return [int(level.sum()) for level in inside_flags.split(list(num_level_anchors))]

    def _check_shapes(self, metas: list[dict]) -> None:
        """Refuse pictures without room for any anchor, by their shapes alone: they are known on the host."""
        border = self.train_cfg.get('allowed_border', -1)
        for meta in metas:
            room = min(meta['img_shape'][:2]) + 2 * border if border >= 0 else 1
            if min(room, *meta.get('pad_shape', meta['img_shape'])[:2]) <= 0:
                raise UserValueError(
                    f'no anchor lies inside the picture: img_shape={meta["img_shape"]}, '
                    f'pad_shape={meta.get("pad_shape")}, allowed_border={border}'
                )

    def _inside(self, priors: Priors, metas: list[dict]) -> Priors:
        """Leave out anchors that reach ``train_cfg.allowed_border`` pixels over the picture; none if negative."""
        border = self.train_cfg.get('allowed_border', -1)
        if border < 0:
            return priors
        x1, y1, x2, y2 = priors.boxes.unbind(-1)
        height, width = constant([meta['img_shape'][:2] for meta in metas], x1).t()[..., None]  # (B, 1)
        inside = (x1 >= -border) & (y1 >= -border) & (x2 < width + border) & (y2 < height + border)
        return Priors(priors.boxes, priors.valid & inside, priors.level_sizes, priors.strides)

    def _build_targets(
        self, priors: Priors, assignment: Assignment, gt: PaddedGT, train_cfg: ConfigType | None = None
    ) -> DenseTargets:
        targets = super()._build_targets(priors, assignment, gt, train_cfg)
        if self.matches_in_targets:
            targets.extras['rest'] = [torch.where(targets.pos, assignment.gt_inds - 1, -1)]
        return targets

    def _each_loss(
        self, outputs: Sequence[tuple[list[Tensor], int]], anchors: Tensor, targets: DenseTargets, avg_factor: Tensor
    ) -> tuple[list[Tensor], ...]:
        """The values of :meth:`_losses`, each a list of one, or of one a call of an own ``loss_by_feat_single``.

        Args:
            outputs: Level maps ``[(B, A * D, H, W)]`` and D, of each output of the head.
        """
        if not hasattr(self.loss_by_feat_single, 'by_batch'):
            return joints.losses_by_single(self, outputs, anchors, targets, avg_factor)
        values: list[Any] = [*flatten_outputs(*outputs), anchors, targets, avg_factor]
        return tuple([loss] for loss in self._losses(*values))

    def _losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: DenseTargets, avg_factor: Tensor
    ) -> tuple[Tensor, ...]:
        """Class and box loss of ``logits (B, P, C)``, ``deltas (B, P, reg_dim)`` and ``anchors (B, P, 4)``."""
        t, sizes = targets, targets.level_sizes
        loss_cls = self._loss(self.loss_cls, sizes, logits, t.labels, t.label_weights, avg_factor=avg_factor)
        pred, target = self._box_pairs(deltas, anchors, t)
        return loss_cls, self._loss(self.loss_bbox, sizes, pred, target, t.bbox_weights, avg_factor=avg_factor)

    def _box_pairs(self, deltas: Tensor, anchors: Tensor, targets: DenseTargets) -> tuple[Tensor, Tensor]:
        """Predictions and targets ``(B, P, 4)`` of the box loss: deltas, or boxes with ``reg_decoded_bbox``."""
        if not self.reg_decoded_bbox:
            return deltas, targets.bbox_targets
        pred = get_box_tensor(self.bbox_coder.decode(anchors, deltas))
        # Finite, and no loss, off the positives.
        return pred, torch.where(targets.bbox_weights > 0, targets.bbox_targets, pred.detach())

    @by_batch
    def get_anchors(
        self, featmap_sizes: list[tuple], batch_img_metas: list[dict], device: torch.device | str = 'cuda'
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Anchors and valid flags, lists by image of lists by level: references to one grid."""
        pads = tuple(tuple(meta['pad_shape'][:2]) for meta in batch_img_metas)
        return joints.priors_as_lists(self._make_priors(featmap_sizes, pads, device))

    @by_batch
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
        targets, results = self._targets_and_samples(
            anchor_list,
            valid_flag_list,
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore,
            with_samples=return_sampling_results,
        )
        lists = joints.TargetLists.of(targets, targets.anchors if self.anchors_in_targets else None)
        return (*lists, results) if return_sampling_results else lists

    def _targets_and_samples(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
        unmap_outputs: bool = True,
        *,
        with_samples: bool = False,
    ) -> tuple[DenseTargets, list]:
        """Targets, with their anchors, and, if asked for, the sampling result of each image."""
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        priors = self._inside(joints.priors_from_lists(anchor_list, valid_flag_list), batch_img_metas)
        if hasattr(self._get_targets_single, 'by_batch'):
            assignment = self._assign(self.assigner, priors, gt)
            targets = self._build_targets(priors, assignment, gt)
            results = joints.sampling_results(targets, priors, gt, assignment, self.sampler) if with_samples else []
        else:
            targets = joints.targets_of_each_image(self, priors, gt, batch_img_metas)
            results = targets.extras['sampling_results']
        targets.anchors = priors.expanded()
        return targets, results

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
        """Labels, their weights, box targets, their weights, pos_inds, neg_inds, sampling result of one image."""
        boxes = get_box_tensor(flat_anchors)
        priors = Priors(boxes[None], valid_flags.bool()[None], list(level_sizes or [len(boxes)]))
        priors = self._inside(priors, [img_meta])
        if not priors.valid.any():
            raise UserValueError(
                f'no anchor lies inside the picture of shape {img_meta.get("img_shape")}, by allowed_border='
                f'{self.train_cfg.get("allowed_border", -1)} or the valid flags'
            )
        gt = PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        assignment = self._assign(self.assigner, priors, gt)
        return joints.image_targets(self._build_targets(priors, assignment, gt), priors, gt, assignment, self.sampler)

    @by_batch
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
    ) -> tuple[Tensor, ...]:
        """Class and box loss of one level, or of the whole pyramid dressed as one.

        Args:
            cls_score: ``(B, A * C, H, W)``.
            bbox_pred: ``(B, A * reg_dim, H, W)``.
            anchors: ``(B, P, 4)``. The targets begin with ``(B, P)`` too.
        """
        targets = joints.level_targets(self.num_classes, labels, label_weights, bbox_targets, bbox_weights)
        logits, deltas = flatten_outputs(([cls_score], self.cls_out_channels), ([bbox_pred], self.reg_dim))
        return self._losses(logits, deltas, anchors, targets, avg_factor)


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
        return flat_anchors, *super()._get_targets_single(  # type: ignore[misc]  # the anchor head's, next in line
            flat_anchors, valid_flags, gt_instances, img_meta, gt_instances_ignore, level_sizes=num_level_anchors
        )
