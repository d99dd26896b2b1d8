"""DDOD (arXiv:2107.02963). Letters: B images, P anchors of all levels, C classes, L levels."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn import ConvModule, Scale
from mmengine.model import bias_init_with_prob, normal_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    Priors,
    by_batch,
    flatten_outputs,
    mean_count,
    multi_apply,
    split_levels,
)
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps

from . import family_joints, joints
from .anchor_head import AnchorHead


@MODELS.register_module()
class DDODHead(AnchorHead):
    """ATSS whose two tasks have receptive fields and positives of their own, and levels with few positives weigh more.

    Args:
        use_dcn: Whether the first convolution of each tower is deformable (DCNv1).
        loss_iou: Loss of the predicted overlap.

    ``train_cfg.assigner`` chooses the positives of the classes, ``train_cfg.reg_assigner`` those of the boxes. How many
    positives each level has had so far is counted on the device and is no part of a checkpoint, as in 3.x.
    """

    cls_num_pos_samples_per_level: Tensor
    atss_cls: nn.Module

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg=None,
        use_dcn: bool = True,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss_iou=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        **kwargs,
    ) -> None:
        self.stacked_convs, self.conv_cfg, self.norm_cfg, self.use_dcn = stacked_convs, conv_cfg, norm_cfg, use_dcn
        super().__init__(num_classes, in_channels, **kwargs)
        if self.train_cfg:
            self.cls_assigner = self.assigner
            self.reg_assigner = TASK_UTILS.build(self.train_cfg['reg_assigner'])
        self.loss_iou = MODELS.build(loss_iou)
        counts = torch.zeros(len(self.prior_generator.strides))
        self.register_buffer('cls_num_pos_samples_per_level', counts, persistent=False)

    def _init_layers(self) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.cls_convs, self.reg_convs = self._towers()
        predictor: dict[str, Any] = dict(kernel_size=3, padding=1)
        self.atss_cls = nn.Conv2d(self.feat_channels, self.num_base_priors * self.cls_out_channels, **predictor)
        self.atss_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * 4, **predictor)
        self.atss_iou = nn.Conv2d(self.feat_channels, self.num_base_priors, **predictor)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)

    def _tower_layer(self, i: int) -> nn.Module:
        conv_cfg = dict(type='DCN', deform_groups=1) if self.use_dcn and i == 0 else self.conv_cfg
        channels = self.feat_channels if i else self.in_channels
        return ConvModule(channels, self.feat_channels, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=self.norm_cfg)

    def init_weights(self) -> None:
        for layer in (*self.cls_convs, *self.reg_convs):
            normal_init(layer.conv, std=0.01)
        normal_init(self.atss_reg, std=0.01)
        normal_init(self.atss_iou, std=0.01)
        normal_init(self.atss_cls, std=0.01, bias=bias_init_with_prob(0.01))

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:  # type: ignore[override]  # three outputs
        return multi_apply(self.forward_single, x, self.scales)  # type: ignore[return-value]

    # Each level has a scale of its own, as in 3.x.
    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Class logits ``(B, A * C, H, W)``, deltas ``(B, A * 4, H, W)`` and logits of the overlap ``(B, A, H, W)``."""
        reg_feat = self.reg_convs(x)
        return self.atss_cls(self.cls_convs(x)), scale(self.atss_reg(reg_feat)).float(), self.atss_iou(reg_feat)

    def loss_by_feat(  # type: ignore[override]  # a third output, as in 3.x
        self, cls_scores, bbox_preds, iou_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        """``loss_cls``, ``loss_bbox`` and ``loss_iou``, each a list."""
        self._check_shapes(batch_img_metas)
        own = not hasattr(self.get_anchors, 'by_batch')
        read = joints.own_priors if own else AnchorHead._priors
        priors = self._inside(read(self, cls_scores, batch_img_metas), batch_img_metas)
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        logits, deltas, overlaps = flatten_outputs((cls_scores, self.cls_out_channels), (bbox_preds, 4), (iou_preds, 1))
        anchors, loss = priors.expanded(), {}
        for task in ('cls', 'reg'):
            targets = self._task_targets(task, logits, deltas, priors, gt, batch_img_metas)
            factors = self.calc_reweight_factor(split_levels(targets.labels, priors.level_sizes))
            total = mean_count(targets.avg_factor)
            if task == 'cls':
                names, fields = ['loss_cls'], [logits, targets.labels, targets.label_weights]
            else:
                names, fields = ['loss_bbox', 'loss_iou'], [anchors, deltas, overlaps, targets.labels]
                fields += [targets.label_weights, targets.bbox_targets, targets.bbox_weights]
            if hasattr(getattr(self, f'loss_{task}_by_feat_single'), 'by_batch'):
                sizes = priors.level_sizes
                factor = torch.cat([logits.new_ones(size) * f for f, size in zip(factors, sizes)])  # (P,)
                values = getattr(self, f'_{task}_losses')(*fields, factor, total, sizes)
                loss.update({name: [value] for name, value in zip(names, values)})
            else:
                maps = (cls_scores,) if task == 'cls' else (bbox_preds, iou_preds)
                loss.update(
                    zip(names, family_joints.task_losses(self, task, maps, fields, factors, total, priors.level_sizes))
                )
        return loss

    def _cls_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        factor: Tensor | float,
        avg_factor: Tensor,
        sizes: list[int],
    ) -> tuple[Tensor]:
        return (self._loss(self.loss_cls, sizes, logits, labels, label_weights * factor, avg_factor=avg_factor),)

    def _reg_losses(
        self,
        anchors: Tensor,
        deltas: Tensor,
        overlaps: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        factor: Tensor | float,
        avg_factor: Tensor,
        sizes: list[int],
    ) -> tuple[Tensor, Tensor]:
        """Losses of the boxes and of the predicted overlaps; ``factor`` is that of each anchor ``(P,)`` or of all."""
        pos = (labels >= 0) & (labels < self.num_classes)
        pred = get_box_tensor(self.bbox_coder.decode(anchors, deltas))
        truth = bbox_targets if self.reg_decoded_bbox else self.bbox_coder.decode(anchors, bbox_targets)
        truth = torch.where(pos[..., None], truth, pred.detach())  # finite, and no loss, off the positives
        overlap = bbox_overlaps(pred.detach(), truth, is_aligned=True) * pos
        weight = pos.to(pred.dtype) * factor
        counted = (bbox_weights.sum(-1) > 0).to(pred.dtype) * factor
        return (
            self._loss(self.loss_bbox, sizes, pred, truth, weight, avg_factor=avg_factor),
            self._loss(self.loss_iou, sizes, overlaps[..., 0], overlap, counted, avg_factor=avg_factor),
        )

    def calc_reweight_factor(self, labels_list: list[Tensor]) -> list[Tensor]:
        """Weight of each level, from 1 for the one with most positives so far to 2 for that with fewest (Sec. 3.4).

        Counts the positives among ``labels`` ``[(B, P_level)]`` first.
        """
        counts = torch.stack([((labels >= 0) & (labels < self.num_classes)).sum() for labels in labels_list])
        self.cls_num_pos_samples_per_level += counts
        seen = self.cls_num_pos_samples_per_level
        low, high = seen.aminmax()
        return list((2 - (seen - low) / (high - low + 1e-10)).unbind())

    @by_batch
    def loss_cls_by_feat_single(
        self, cls_score: Tensor, labels: Tensor, label_weights: Tensor, reweight_factor: float, avg_factor: Tensor
    ) -> tuple[Tensor]:
        """Class loss of one level: ``cls_score (B, A * C, H, W)``, labels and weights ``(B, P)``."""
        (logits,) = flatten_outputs(([cls_score], self.cls_out_channels))
        return self._cls_losses(logits, labels, label_weights, reweight_factor, avg_factor, [labels.shape[1]])

    @by_batch
    def loss_reg_by_feat_single(
        self,
        anchors: Tensor,
        bbox_pred: Tensor,
        iou_pred: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        reweight_factor: float,
        avg_factor: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Losses of boxes and overlaps of one level: maps ``(B, A * D, H, W)``, the rest ``(B, P, ...)``."""
        deltas, overlaps = flatten_outputs(([bbox_pred], 4), ([iou_pred], 1))
        fields = anchors, deltas, overlaps, labels, label_weights, bbox_targets, bbox_weights
        return self._reg_losses(*fields, reweight_factor, avg_factor, [labels.shape[1]])

    # -------------------------------------------------------------------------------------------------- targets

    def _task_targets(
        self, task: str, logits: Tensor, deltas: Tensor, priors: Priors, gt: PaddedGT, metas: list[dict]
    ) -> DenseTargets:
        if not hasattr(getattr(self, f'get_{task}_targets'), 'by_batch'):
            return family_joints.task_targets(self, task, logits, deltas, priors, gt, metas)
        if not hasattr(self._get_targets_single, 'by_batch'):
            return family_joints.task_targets_of_each_image(self, task, logits, deltas, priors, gt, metas)
        return self._match(task, logits, deltas, priors, gt)

    def _match(self, task: str, logits: Tensor, deltas: Tensor, priors: Priors, gt: PaddedGT) -> DenseTargets:
        boxes = get_box_tensor(self.bbox_coder.decode(priors.expanded(), deltas.detach()))
        assigner = self.cls_assigner if task == 'cls' else self.reg_assigner
        assignment = self._assign(assigner, priors, gt, dict(scores=logits.detach(), bboxes=boxes))
        return self._build_targets(priors, assignment, gt)

    def process_predictions_and_anchors(
        self, anchor_list, valid_flag_list, cls_scores, bbox_preds, batch_img_metas, batch_gt_instances_ignore=None
    ) -> tuple:
        """Anchors, valid flags, anchors in each level, scores and deltas as lists by image, and ignored regions."""
        priors = joints.priors_from_lists(anchor_list, valid_flag_list)
        outputs = flatten_outputs((cls_scores, self.cls_out_channels), (bbox_preds, 4))
        count = len(batch_img_metas)
        ignored = [None] * count if batch_gt_instances_ignore is None else batch_gt_instances_ignore
        lists = list(priors.expanded()), list(priors.valid), [priors.level_sizes] * count
        return (*lists, *(list(value.detach()) for value in outputs), ignored)

    @by_batch
    def get_cls_targets(
        self,
        anchor_list: list[Tensor],
        valid_flag_list: list[Tensor],
        num_level_anchors_list: list[list[int]],
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        batch_gt_instances,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore=None,
        unmap_outputs: bool = True,
    ) -> DenseTargets:
        """Targets of the classes from lists by image, as :meth:`process_predictions_and_anchors` makes them.

        They unpack as anchors, labels, label weights, box targets, box weights by level, and the number of positives.
        """
        lists = anchor_list, valid_flag_list, num_level_anchors_list, cls_score_list, bbox_pred_list
        return self._listed_targets('cls', *lists, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)

    @by_batch
    def get_reg_targets(
        self,
        anchor_list: list[Tensor],
        valid_flag_list: list[Tensor],
        num_level_anchors_list: list[list[int]],
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        batch_gt_instances,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore=None,
        unmap_outputs: bool = True,
    ) -> DenseTargets:
        """Targets of the boxes, as :meth:`get_cls_targets`."""
        lists = anchor_list, valid_flag_list, num_level_anchors_list, cls_score_list, bbox_pred_list
        return self._listed_targets('reg', *lists, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)

    def _listed_targets(
        self, task: str, anchors, flags, level_sizes, scores, deltas, gt_instances, metas, ignored
    ) -> DenseTargets:
        priors = Priors(torch.stack(list(anchors)), torch.stack(list(flags)).bool(), list(level_sizes[0]))
        gt, priors = PaddedGT.from_instances(gt_instances, ignored), self._inside(priors, metas)
        outputs = torch.stack(list(scores)), torch.stack(list(deltas))
        if hasattr(self._get_targets_single, 'by_batch'):
            targets = self._match(task, *outputs, priors, gt)
        else:
            targets = family_joints.task_targets_of_each_image(self, task, *outputs, priors, gt, metas)
        return joints.TargetLists.of(targets, priors.expanded())

    @by_batch
    def _get_targets_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        num_level_anchors: list[int],
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
        is_cls_assigner: bool = True,
    ) -> tuple:
        """Anchors and, of one image and task, what :meth:`AnchorHead._get_targets_single` returns."""
        priors = Priors(get_box_tensor(flat_anchors)[None], valid_flags.bool()[None], list(num_level_anchors))
        priors, gt = self._inside(priors, [img_meta]), PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        task = 'cls' if is_cls_assigner else 'reg'
        targets = self._match(task, cls_scores[None], bbox_preds[None], priors, gt)
        assignment = Assignment(targets.gt_inds)
        return flat_anchors, *joints.image_targets(targets, priors, gt, assignment, self.sampler)
