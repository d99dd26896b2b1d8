"""SABL (arXiv:1912.04260). Letters: B images, P squares of all levels, A approximations of each, C classes, S buckets
of a side."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    Priors,
    by_batch,
    constant,
    flatten_outputs,
    multi_apply,
    split_levels,
)
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList, OptMultiConfig

from . import family_joints, joints
from .base_dense_head import BaseDenseHead

_APPROXIMATIONS = dict(
    type='AnchorGenerator',
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0],
    strides=[8, 16, 32, 64, 128],
)
_SQUARES = dict(type='AnchorGenerator', ratios=[1.0], scales=[4], strides=[8, 16, 32, 64, 128])


@MODELS.register_module()
class SABLRetinaHead(BaseDenseHead):
    """RetinaNet whose boxes are found side by side, by buckets, from one square in each place.

    Args:
        approx_anchor_generator: Anchors of each place, of which the best stands for the square when it is assigned.
        square_anchor_generator: The squares that the coder starts from.
        loss_bbox_cls, loss_bbox_reg: Losses of the buckets and of the offsets in them.
    """

    use_sigmoid_cls: bool

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        approx_anchor_generator: ConfigType = _APPROXIMATIONS,
        square_anchor_generator: ConfigType = _SQUARES,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        bbox_coder: ConfigType = dict(type='BucketingBBoxCoder', num_buckets=14, scale_factor=3.0),
        reg_decoded_bbox: bool = False,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        loss_cls: ConfigType = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.5),
        loss_bbox_reg: ConfigType = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.5),
        init_cfg: OptMultiConfig = dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01),
        ),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels, self.num_classes, self.feat_channels = in_channels, num_classes, feat_channels
        self.stacked_convs, self.conv_cfg, self.norm_cfg = stacked_convs, conv_cfg, norm_cfg
        self.reg_decoded_bbox = reg_decoded_bbox
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        self.num_buckets, self.side_num = self.bbox_coder.num_buckets, self.bbox_coder.side_num
        self.approx_anchor_generator = TASK_UTILS.build(approx_anchor_generator)
        self.prior_generator = self.square_anchor_generator = TASK_UTILS.build(square_anchor_generator)
        self.approxs_per_octave = self.approx_anchor_generator.num_base_priors[0]
        self.num_base_priors = self.square_anchor_generator.num_base_priors[0]
        if self.num_base_priors != 1:
            raise UserValueError(f'SABLRetinaHead needs one square in each place, not {self.num_base_priors}')
        self.use_sigmoid_cls = loss_cls.get('use_sigmoid', False)
        self.cls_out_channels = num_classes if self.use_sigmoid_cls else num_classes + 1
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox_cls, self.loss_bbox_reg = MODELS.build(loss_bbox_cls), MODELS.build(loss_bbox_reg)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg['assigner'])
            sampler = train_cfg.get('sampler')
            self.sampler = PseudoSampler(context=self) if sampler is None else TASK_UTILS.build(sampler)
        self._init_layers()

    def _init_layers(self) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.cls_convs, self.reg_convs = self._towers()
        self.retina_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)
        self.retina_bbox_reg = nn.Conv2d(self.feat_channels, self.side_num * 4, 3, padding=1)
        self.retina_bbox_cls = nn.Conv2d(self.feat_channels, self.side_num * 4, 3, padding=1)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:  # type: ignore[override]  # pairs
        return multi_apply(self.forward_single, feats)  # type: ignore[return-value]

    def forward_single(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Class logits ``(B, C, H, W)``, and logits and offsets of the buckets ``(B, 4 * S, H, W)``."""
        reg_feat = self.reg_convs(x)
        return self.retina_cls(self.cls_convs(x)), (self.retina_bbox_cls(reg_feat), self.retina_bbox_reg(reg_feat))

    @by_batch
    def get_anchors(
        self, featmap_sizes: list[tuple], img_metas: list[dict], device: torch.device | str = 'cuda'
    ) -> list[list[Tensor]]:
        """Squares ``[(P_level, 4)]`` by level, of each image."""
        squares = self._make_priors(featmap_sizes, None, device)
        return [split_levels(squares.boxes[0], squares.level_sizes, 0)] * len(img_metas)

    # -------------------------------------------------------------------------------------------------- training

    def loss_by_feat(  # type: ignore[override]  # pairs in the place of boxes
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[tuple[Tensor, Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls``, ``loss_bbox_cls`` and ``loss_bbox_reg``, each a list."""
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        squares = self._priors(cls_scores, batch_img_metas)
        if not hasattr(self.get_anchors, 'by_batch'):
            squares = family_joints.own_squares(self, cls_scores, batch_img_metas, squares)
        approxs = self._priors(cls_scores, batch_img_metas, self.approx_anchor_generator)
        squares = self._usable(squares, approxs, batch_img_metas)
        if hasattr(self.get_targets, 'by_batch') and hasattr(self._get_targets_single, 'by_batch'):
            targets = self._targets(approxs, squares, gt)
        else:
            targets = family_joints.bucket_targets(self, approxs, squares, gt, batch_img_metas)
        buckets = [torch.cat(pair, 1) for pair in bbox_preds]
        names = 'loss_cls', 'loss_bbox_cls', 'loss_bbox_reg'
        if not hasattr(self.loss_by_feat_single, 'by_batch'):
            return dict(zip(names, family_joints.bucket_losses(self, cls_scores, bbox_preds, targets)))
        logits, sides = flatten_outputs((cls_scores, self.cls_out_channels), (buckets, self.side_num * 8))
        bucket_logits, offsets = sides.chunk(2, -1)
        values = self._losses(logits, bucket_logits, offsets, targets)
        return {name: [value] for name, value in zip(names, values)}

    def _usable(self, squares: Priors, approxs: Priors, metas: list[dict]) -> Priors:
        """The squares of which at least one approximation lies in the picture, by ``train_cfg.allowed_border``."""
        valid = approxs.valid
        if (border := self.train_cfg.get('allowed_border', -1)) >= 0:
            x1, y1, x2, y2 = approxs.boxes.unbind(-1)
            height, width = constant([meta['img_shape'][:2] for meta in metas], x1).t()[..., None]
            inside = (x1 >= -border) & (y1 >= -border) & (x2 < width + border) & (y2 < height + border)
            valid = valid & inside
        valid = valid.unflatten(1, (-1, self.approxs_per_octave)).any(-1)
        return Priors(squares.boxes, valid, squares.level_sizes, squares.strides)

    def _targets(self, approxs: Priors, squares: Priors, gt: PaddedGT) -> DenseTargets:
        """Targets whose ``bbox_targets`` are offsets; ``extras`` have the ``buckets`` and their ``bucket_weights``."""
        boxes = approxs.boxes.unflatten(1, (-1, self.approxs_per_octave))  # (1, P, A, 4)
        assignment = self._assign(self.assigner, squares, gt, options=dict(approxs=boxes))
        targets = self._build_targets(squares, assignment, gt)
        each, own = targets.pos[..., None], squares.expanded()
        truth = torch.where(each, targets.bbox_targets, own)  # finite off the positives
        offsets, weights, labels, counted = (torch.where(each, v, 0.0) for v in self.bbox_coder.encode(own, truth))
        targets.bbox_targets, targets.bbox_weights = offsets, weights
        targets.extras.update(buckets=labels, bucket_weights=counted)
        return targets

    def _losses(self, logits: Tensor, buckets: Tensor, offsets: Tensor, targets: DenseTargets) -> tuple[Tensor, ...]:
        """The losses of class logits ``(B, P, C)``, and of logits and offsets of the buckets ``(B, P, 4 * S)``."""
        t, sizes, total = targets, targets.level_sizes, targets.avg_factor
        buckets_of, weights_of = t.extras['buckets'], t.extras['bucket_weights']
        top = self.bbox_coder.offset_topk
        return (
            self._loss(self.loss_cls, sizes, logits, t.labels, t.label_weights, avg_factor=total),
            self._loss(
                self.loss_bbox_cls, sizes, buckets, buckets_of, weights_of, avg_factor=total * 4 * self.side_num
            ),
            self._loss(self.loss_bbox_reg, sizes, offsets, t.bbox_targets, t.bbox_weights, avg_factor=total * 4 * top),
        )

    @by_batch
    def loss_by_feat_single(
        self,
        cls_score: Tensor,
        bbox_pred: tuple[Tensor, Tensor],
        labels: Tensor,
        label_weights: Tensor,
        bbox_cls_targets: Tensor,
        bbox_cls_weights: Tensor,
        bbox_reg_targets: Tensor,
        bbox_reg_weights: Tensor,
        avg_factor: Tensor,
    ) -> tuple[Tensor, ...]:
        """The losses of one level: maps ``(B, C, H, W)`` and twice ``(B, 4 * S, H, W)``, targets ``(B, P, ...)``."""
        targets = joints.level_targets(self.num_classes, labels, label_weights, bbox_reg_targets, bbox_reg_weights)
        targets.avg_factor = avg_factor
        targets.extras.update(buckets=bbox_cls_targets, bucket_weights=bbox_cls_weights)
        maps = [(cls_score, self.cls_out_channels), *((pred, self.side_num * 4) for pred in bbox_pred)]
        logits, buckets, offsets = flatten_outputs(*(([level], dim) for level, dim in maps))
        return self._losses(logits, buckets, offsets, targets)

    @by_batch
    def get_targets(
        self,
        approx_list: list[list[Tensor]],
        inside_flag_list: list[list[Tensor]],
        square_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
        unmap_outputs: bool = True,
    ) -> tuple:
        """Labels, label weights, bucket targets and weights, offset targets and weights, lists by level, and the number
        of positives; of approximations, usable squares and squares as lists by image and level."""
        sizes = [len(level) for level in square_list[0]]
        ignored = [None] * len(batch_img_metas) if batch_gt_instances_ignore is None else batch_gt_instances_ignore
        flat = ([torch.cat(list(levels)) for levels in lists] for lists in (approx_list, inside_flag_list, square_list))
        images = zip(*flat, batch_gt_instances, batch_img_metas, ignored)
        singles = [self._get_targets_single(*image) for image in images]
        fields = (split_levels(torch.stack([single[i] for single in singles]), sizes) for i in range(6))
        return *fields, sum(single[8].avg_factor for single in singles)

    @by_batch
    def _get_targets_single(
        self,
        flat_approxs: Tensor,
        inside_flags: Tensor,
        flat_squares: Tensor,
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
    ) -> tuple:
        """Labels, label weights, bucket targets and weights, offset targets and weights, indices of positives and
        negatives, and the sampling result of one image."""
        squares = Priors(flat_squares[None], inside_flags.bool()[None], [len(flat_squares)])
        approxs = Priors(flat_approxs.reshape(1, -1, 4), squares.valid, [flat_approxs.numel() // 4])
        gt = PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        t = self._targets(approxs, squares, gt)
        (result,) = joints.sampling_results(t, squares, gt, Assignment(t.gt_inds), self.sampler)
        fields = t.labels, t.label_weights, t.extras['buckets'], t.extras['bucket_weights'], t.bbox_targets
        return *(field[0] for field in (*fields, t.bbox_weights)), result.pos_inds, result.neg_inds, result

    # ------------------------------------------------------------------------------------------------ prediction

    @torch.no_grad()
    def predict_by_feat(  # type: ignore[override]  # pairs in the place of boxes
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[tuple[Tensor, Tensor]],
        batch_img_metas: list[dict],
        cfg: OptConfigType = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Detections of each image, whose scores are multiplied by how sure the sides are."""
        if not hasattr(self._predict_by_feat_single, 'by_batch'):
            return family_joints.bucket_detections(
                self, cls_scores, bbox_preds, batch_img_metas, cfg, rescale, with_nms
            )
        joined = [torch.cat(pair, 1) for pair in bbox_preds]
        return super().predict_by_feat(
            cls_scores, joined, batch_img_metas=batch_img_metas, cfg=cfg, rescale=rescale, with_nms=with_nms
        )

    def _decode(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> dict:
        boxes, sure = self.bbox_coder.decode(priors, preds.chunk(2, -1), max_shape=shapes)
        return dict(bboxes=boxes, score_factors=sure)

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        cls_scores: list[Tensor],
        bbox_cls_preds: list[Tensor],
        bbox_reg_preds: list[Tensor],
        mlvl_anchors: list[Tensor],
        img_meta: dict,
        cfg: ConfigType,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceData:
        """Detections of one image, whose maps are ``(C, H, W)`` and ``(4 * S, H, W)``."""
        joined = [torch.cat(pair, 0) for pair in zip(bbox_cls_preds, bbox_reg_preds)]
        factors: list[Any] = [None] * len(joined)
        return super()._predict_by_feat_single(
            cls_scores, joined, factors, mlvl_anchors, img_meta, cfg, rescale=rescale, with_nms=with_nms
        )
