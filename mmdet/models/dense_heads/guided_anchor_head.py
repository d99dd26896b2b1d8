"""Guided Anchoring (arXiv:1901.03278).

Letters: B images, P anchors of all levels, A approximate anchors of a guided one, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    CenterRegions,
    DenseTargets,
    PaddedGT,
    Priors,
    by_batch,
    cell_grid,
    flatten_levels,
    flatten_outputs,
    in_float32,
    map_sizes,
    split_levels,
    unmap,
)
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.ops import DeformConv2d
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList, OptMultiConfig

from . import guided_joints, joints
from .anchor_head import AnchorHead

_CODER = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[1.0, 1.0, 1.0, 1.0])
_APPROXIMATE = dict(
    type='AnchorGenerator',
    octave_base_scale=8,
    scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0],
    strides=[4, 8, 16, 32, 64],
)
_SQUARE = dict(type='AnchorGenerator', ratios=[1.0], scales=[8], strides=[4, 8, 16, 32, 64])

WEIGHT_OF_BACKGROUND = 0.1  # of the location loss; its positives have 1
SHARE_OF_LOCATIONS = 200  # which divides their number in the normaliser of that loss
SIDE_RATIO = 1e-6  # by which guided anchors may differ from squares, or by its inverse


class FeatureAdaption(BaseModule):
    """A deformable convolution whose offsets follow the shape of the anchor (Sec. 3.4).

    Args:
        deform_groups: Groups of channels with offsets of their own.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        deform_groups: int = 4,
        init_cfg: OptMultiConfig = dict(
            type='Normal', layer='Conv2d', std=0.1, override=dict(type='Normal', name='conv_adaption', std=0.01)
        ),
    ) -> None:
        super().__init__(init_cfg)
        self.conv_offset = nn.Conv2d(2, deform_groups * 2 * kernel_size * kernel_size, 1, bias=False)
        self.conv_adaption = DeformConv2d(
            in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, deform_groups=deform_groups
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, shape: Tensor) -> Tensor:
        """``x (B, C, H, W)`` and the predicted shapes ``(B, 2, H, W)``, to which no gradient flows."""
        return self.relu(self.conv_adaption(x, self.conv_offset(shape.detach())))


@MODELS.register_module()
class GuidedAnchorHead(AnchorHead):
    """Predicts where anchors are, of what shape, and only then what is in them.

    One square anchor at a location is stretched to the predicted width and height; which ground truth its shape is
    learned from is decided by approximate anchors. Predictions leave out locations by ``loc_filter_thr``, their scores,
    not the computation.

    As in 3.x, whose weights fit no other rule, centres have class 1 in ``loss_loc``, which is the background of a loss
    by class indices: with `FocalLoss` the location's output falls at centres, and the filter leaves out little.

    Args:
        anchor_coder: From squares to guided anchors; ``bbox_coder`` from these to boxes.
        deform_groups: See :class:`FeatureAdaption`.
        loc_filter_thr: Sigmoid of the location's output from which a location counts in predictions; 0 keeps all.

    ``train_cfg`` has ``ga_assigner`` and ``ga_sampler`` for shapes, ``center_ratio`` and ``ignore_ratio`` for
    locations beside ``assigner`` and ``sampler`` for what is in the guided anchors.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        approx_anchor_generator: ConfigType = _APPROXIMATE,
        square_anchor_generator: ConfigType = _SQUARE,
        anchor_coder: ConfigType = _CODER,
        bbox_coder: ConfigType = _CODER,
        reg_decoded_bbox: bool = False,
        deform_groups: int = 4,
        loc_filter_thr: float = 0.01,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        loss_loc: ConfigType = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_shape: ConfigType = dict(type='BoundedIoULoss', beta=0.2, loss_weight=1.0),
        loss_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox: ConfigType = dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
        init_cfg: OptMultiConfig = dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='conv_loc', std=0.01, bias_prob=0.01),
        ),
    ) -> None:
        for name, square in (('octave_base_scale', square_anchor_generator['scales'][0]), ('strides', None)):
            square = square_anchor_generator[name] if square is None else square
            if approx_anchor_generator[name] != square:
                raise UserValueError(
                    f'approx_anchor_generator has {name}={approx_anchor_generator[name]}, but the squares of '
                    f'square_anchor_generator have {square}'
                )
        self.deform_groups, self.loc_filter_thr = deform_groups, loc_filter_thr
        super().__init__(
            num_classes,
            in_channels,
            feat_channels,
            square_anchor_generator,
            bbox_coder,
            reg_decoded_bbox,
            loss_cls,
            loss_bbox,
            train_cfg,
            test_cfg,
            init_cfg,
        )
        self.anchor_coder = TASK_UTILS.build(anchor_coder)
        self.approx_anchor_generator = TASK_UTILS.build(approx_anchor_generator)
        self.approxs_per_octave = self.approx_anchor_generator.num_base_priors[0]
        self.loss_loc, self.loss_shape = MODELS.build(loss_loc), MODELS.build(loss_shape)
        if self.train_cfg:
            self.ga_assigner = TASK_UTILS.build(self.train_cfg['ga_assigner'])
            sampler = self.train_cfg.get('ga_sampler')
            context = dict(context=self)
            self.ga_sampler = (
                PseudoSampler(**context) if sampler is None else TASK_UTILS.build(sampler, default_args=context)
            )

    @property
    def square_anchor_generator(self):
        """The generator of the squares, by the name that configs give it."""
        return self.prior_generator

    def _init_layers(self) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.conv_loc = nn.Conv2d(self.in_channels, 1, 1)
        self.conv_shape = nn.Conv2d(self.in_channels, self.num_base_priors * 2, 1)
        self.feature_adaption = FeatureAdaption(self.in_channels, self.feat_channels, deform_groups=self.deform_groups)
        self.conv_cls = nn.Conv2d(self.feat_channels, self.num_base_priors * self.cls_out_channels, 1)
        self.conv_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * self.reg_dim, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Class logits ``(B, C, H, W)``, deltas ``(B, 4, H, W)``, shapes ``(B, 2, H, W)`` and logits of the location
        ``(B, 1, H, W)`` of one level."""
        shape_pred = self.conv_shape(x)
        adapted = self.feature_adaption(x, shape_pred)
        return self.conv_cls(adapted), self.conv_reg(adapted), shape_pred, self.conv_loc(x)

    # -------------------------------------------------------------------------------------------------- anchors

    def _guide(
        self, squares: Priors, shape_preds: list[Tensor], loc_preds: list[Tensor], use_loc_filter: bool
    ) -> Priors:
        """Guided anchors ``(B, P, 4)``, those at likely centres valid; all of them without ``use_loc_filter``."""
        if hasattr(self._get_guided_anchors_single, 'by_batch'):
            return self._stretch(squares, shape_preds, loc_preds, use_loc_filter)
        return guided_joints.guided_by_image(self, squares, shape_preds, loc_preds, use_loc_filter)

    def _stretch(
        self, squares: Priors, shape_preds: list[Tensor], loc_preds: list[Tensor], use_loc_filter: bool
    ) -> Priors:
        shapes, places = flatten_outputs((shape_preds, 2), (loc_preds, 1))
        boxes = squares.boxes.expand(shapes.shape[0], -1, -1)
        deltas = F.pad(shapes.detach().float(), (2, 0))  # the centre stays
        anchors = get_box_tensor(self.anchor_coder.decode(boxes, deltas, wh_ratio_clip=SIDE_RATIO))
        probability = places[..., 0].detach().sigmoid()
        likely = probability >= (self.loc_filter_thr if use_loc_filter else 0.0)
        likely = likely.repeat_interleave(self.num_base_priors, 1)
        return Priors(anchors, likely, squares.level_sizes, squares.strides)

    @by_batch
    def _get_guided_anchors_single(
        self, squares: Tensor, shape_pred: Tensor, loc_pred: Tensor, use_loc_filter: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Guided anchors ``(n, 4)`` at likely centres of a level of one image, and which of its squares ``(P, 4)``
        they come from."""
        boxes = get_box_tensor(squares)[None]
        priors = Priors(boxes, boxes.new_ones(boxes.shape[:2], dtype=torch.bool), [boxes.shape[1]])
        guided = self._stretch(priors, [shape_pred[None]], [loc_pred[None]], use_loc_filter)
        return guided.boxes[0, guided.valid[0]], guided.valid[0]

    @by_batch
    def get_anchors(  # type: ignore[override]  # the arguments of 3.x
        self,
        featmap_sizes: list[tuple],
        shape_preds: list[Tensor],
        loc_preds: list[Tensor],
        batch_img_metas: list[dict],
        use_loc_filter: bool = False,
        device: torch.device | str = 'cuda',
    ) -> tuple[list[list[Tensor]], list[list[Tensor]], list[list[Tensor]]]:
        """Squares, guided anchors, of these only the likely ones with ``use_loc_filter``, and which are: lists by
        image of lists by level."""
        squares = self._priors(shape_preds)
        guided = self._guide(squares, shape_preds, loc_preds, use_loc_filter)
        shared = Priors(squares.boxes, guided.valid, squares.level_sizes, squares.strides)
        anchors, masks = joints.priors_as_lists(guided)
        if use_loc_filter:
            anchors = [[level[mask] for level, mask in zip(*image)] for image in zip(anchors, masks)]
        return joints.priors_as_lists(shared)[0], anchors, masks

    @by_batch
    def get_sampled_approxs(
        self, featmap_sizes: list[tuple], batch_img_metas: list[dict], device: torch.device | str = 'cuda'
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Approximate anchors ``(P * A, 4)``, and whether any of those of a place ``(P,)`` lies inside the picture, as
        lists by image of lists by level."""
        maps = [torch.empty((1, *size), device=device) for size in featmap_sizes]
        priors = self._inside(self._priors(maps, batch_img_metas, self.approx_anchor_generator), batch_img_metas)
        inside = priors.valid.unflatten(1, (-1, self.approxs_per_octave)).any(-1)
        sizes = [size // self.approxs_per_octave for size in priors.level_sizes]
        return joints.priors_as_lists(priors)[0], joints.flags_as_lists(inside, sizes)

    # ---------------------------------------------------------------------------------------------------- losses

    def loss_by_feat(  # type: ignore[override]  # two more outputs, as in 3.x
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        shape_preds: list[Tensor],
        loc_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls``, ``loss_bbox``, ``loss_shape`` and ``loss_loc``, each a list."""
        self._check_shapes(batch_img_metas)
        sizes, device = map_sizes(cls_scores), cls_scores[0].device
        *places, loc_factor = self.ga_loc_targets(batch_gt_instances, sizes)
        approxs, flags = self.get_sampled_approxs(sizes, batch_img_metas, device=device)
        squares, guided, _ = self.get_anchors(sizes, shape_preds, loc_preds, batch_img_metas, device=device)
        truth = batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        *shapes, shape_factor = self.ga_shape_targets(approxs, flags, squares, *truth)
        targets = joints.targets_from_lists(self.get_targets(guided, flags, *truth), self.num_classes)
        outputs = (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim)
        anchors = joints.priors_from_lists(guided, flags).expanded()
        loss_cls, loss_bbox = self._each_loss(outputs, anchors, targets, targets.avg_factor)
        loc_levels = self._calls(self.loss_loc, loc_factor, (loc_preds, 1), *((levels, 1) for levels in places))
        shape_levels = self._calls(self.loss_shape, shape_factor, (shape_preds, 2), *((levels, 0) for levels in shapes))
        return dict(
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            loss_shape=[self.loss_shape_single(*level) for level in shape_levels],
            loss_loc=[self.loss_loc_single(*level) for level in loc_levels],
        )

    def _calls(self, loss: nn.Module, avg_factor: Any, *columns: tuple[Sequence[Tensor], int]) -> Iterator[tuple]:
        """What a loss of one level is called with: the whole pyramid dressed as one, or each where it counts by level.

        Args:
            columns: Maps ``[(B, D, H, W)]`` and D, or ``[(B, P, 4)]`` and 0.
        """
        if getattr(loss, 'by_level', False):
            return zip(*(levels for levels, _ in columns), repeat(avg_factor))
        whole = [
            joints.as_level(flatten_levels(levels, dim)) if dim else torch.cat(list(levels), 1)
            for levels, dim in columns
        ]
        return iter([(*whole, avg_factor)])

    def loss_loc_single(self, loc_pred: Tensor, loc_target: Tensor, loc_weight: Tensor, avg_factor: float) -> Tensor:
        """Loss of the locations of one level, or of all dressed as one; maps ``(B, 1, H, W)``."""
        logits, targets, weights = (value.flatten() for value in (loc_pred, loc_target, loc_weight))
        return self.loss_loc(logits[:, None], targets.long(), weights, avg_factor=avg_factor)

    def loss_shape_single(
        self, shape_pred: Tensor, bbox_anchors: Tensor, bbox_gts: Tensor, anchor_weights: Tensor, avg_factor: Tensor
    ) -> Tensor:
        """Loss of the shapes of one level, or of all dressed as one.

        Args:
            shape_pred: ``(B, 2, H, W)``.
            bbox_anchors, bbox_gts, anchor_weights: ``(B, P, 4)`` squares, ground truths and 1 at positives.
        """
        deltas = F.pad(flatten_levels([shape_pred], 2), (2, 0))
        pos = anchor_weights > 0
        pred = get_box_tensor(self.anchor_coder.decode(bbox_anchors, deltas, wh_ratio_clip=SIDE_RATIO))
        boxes = torch.where(pos, bbox_gts, pred.detach())  # finite, and no loss, off the positives
        fields = (value.flatten(0, 1) for value in (pred, boxes, anchor_weights))
        return self.loss_shape(*fields, avg_factor=avg_factor)

    # --------------------------------------------------------------------------------------------------- targets

    @by_batch
    def ga_loc_targets(
        self, batch_gt_instances: InstanceList, featmap_sizes: list[tuple]
    ) -> tuple[list[Tensor], list[Tensor], float]:
        """Maps ``[(B, 1, H, W)]`` of which locations are centres (Sec. 3.2), their weights, and the normaliser."""
        gt = PaddedGT.from_instances(batch_gt_instances)
        sizes, device = [(int(size[0]), int(size[1])) for size in featmap_sizes], gt.boxes.device
        areas = [height * width for height, width in sizes]
        strides = [self._square_stride(stride) for stride in self.approx_anchor_generator.strides]
        grid = self._grids.get(('cells', tuple(sizes), str(device)), lambda: cell_grid(sizes, device))
        regions = CenterRegions.of(
            grid,
            gt,
            areas,
            sizes,
            strides,
            self.approx_anchor_generator.octave_base_scale,
            self.train_cfg['center_ratio'],
            self.train_cfg['ignore_ratio'],
        )
        far = torch.where(regions.near, 0.0, WEIGHT_OF_BACKGROUND)
        weights = torch.where(regions.gt_inds == 0, far, (regions.gt_inds > 0).float())
        as_maps = lambda flat: [level.view(-1, 1, *size) for level, size in zip(split_levels(flat, areas), sizes)]
        return as_maps(regions.center.float()), as_maps(weights), len(weights) * sum(areas) / SHARE_OF_LOCATIONS

    @staticmethod
    def _square_stride(stride: Any) -> int:
        if stride[0] != stride[1]:
            raise UserValueError(f'guided anchors need equal strides in x and y, not {tuple(stride)}')
        return stride[0]

    @by_batch
    def ga_shape_targets(
        self,
        approx_list: list[list[Tensor]],
        inside_flag_list: list[list[Tensor]],
        square_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
        unmap_outputs: bool = True,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
        """Squares, ground truths of the positives and weights ``[(B, P, 4)]`` by level, and the normaliser."""
        squares, approxs = joints.priors_from_lists(square_list, inside_flag_list), joints.priors_of(approx_list)
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        if hasattr(self._ga_shape_target_single, 'by_batch'):
            targets, _ = self._shape_targets(squares, approxs.boxes, gt)
            columns: tuple[Tensor, ...] = squares.expanded(), targets.bbox_targets, targets.bbox_weights
            factor = targets.avg_factor
        else:
            columns, factor = guided_joints.shape_targets(self, squares, approxs, gt, batch_img_metas)
        anchors, boxes, weights = (split_levels(column, squares.level_sizes) for column in columns)
        return anchors, boxes, weights, factor

    def _shape_targets(self, squares: Priors, approxs: Tensor, gt: PaddedGT) -> tuple[DenseTargets, Assignment]:
        """Ground truths that the shapes of squares are learned from, by approximate anchors ``(1 or B, P * A, 4)``."""
        approxs = approxs.unflatten(1, (-1, self.approxs_per_octave)).expand(len(gt.mask), -1, -1, -1)
        assignment = self._assign(self.ga_assigner, squares, gt, dict(approxs=approxs))
        pos, neg = self._draw(squares, assignment, gt, self.ga_sampler)
        counts = dict(count_negatives=self.ga_sampler.avg_factor_with_neg, level_sizes=squares.level_sizes)
        return DenseTargets.build(assignment, gt, self.num_classes, pos=pos, neg=neg, **counts), assignment

    @by_batch
    def _ga_shape_target_single(
        self,
        flat_approxs: Tensor,
        inside_flags: Tensor,
        flat_squares: Tensor,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None,
        img_meta: dict,
        unmap_outputs: bool = True,
    ) -> tuple:
        """Squares, ground truths and weights ``(P, 4)``, positive and negative indices, and the sampling result of one
        image. Squares are zeros off the positives."""
        squares = Priors(get_box_tensor(flat_squares)[None], inside_flags.bool()[None], [len(inside_flags)])
        gt = PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        targets, assignment = self._shape_targets(squares, get_box_tensor(flat_approxs)[None], gt)
        (result,) = joints.sampling_results(targets, squares, gt, assignment, self.ga_sampler)
        anchors = torch.where(targets.bbox_weights > 0, squares.boxes, 0.0)
        columns = anchors[0], targets.bbox_targets[0], targets.bbox_weights[0]
        return *columns, result.pos_inds, result.neg_inds, result

    # ----------------------------------------------------------------------------------------------- predictions

    @torch.no_grad()
    @in_float32
    def predict_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        shape_preds: list[Tensor],
        loc_preds: list[Tensor],
        batch_img_metas: list[dict],
        cfg: OptConfigType = None,
        rescale: bool = False,
    ) -> InstanceList:
        """Detections of each image, at likely centres alone unless the head is in training."""
        cfg = self.test_cfg if cfg is None else cfg
        if hasattr(self.get_anchors, 'by_batch'):
            guided = self._guide(self._priors(shape_preds), shape_preds, loc_preds, not self.training)
        else:
            guided = guided_joints.own_guided_anchors(self, shape_preds, loc_preds, batch_img_metas)
        if not hasattr(self._predict_by_feat_single, 'by_batch'):
            return guided_joints.guided_detections(self, cls_scores, bbox_preds, guided, batch_img_metas, cfg, rescale)
        return self._predict_guided(cls_scores, bbox_preds, guided, batch_img_metas, cfg, rescale)

    def _predict_guided(self, cls_scores, bbox_preds, guided: Priors, metas: list[dict], cfg, rescale: bool):
        levels = zip(cls_scores, split_levels(guided.valid, guided.level_sizes))
        scores = [self._without(score, ~likely) for score, likely in levels]
        return self._predict_batch(scores, bbox_preds, None, guided, metas, cfg, rescale, True)

    def _without(self, cls_score: Tensor, unlikely: Tensor) -> Tensor:
        """A map ``(B, A * C, H, W)`` whose ``unlikely (B, H * W * A)`` anchors have no score in any class."""
        height, width = cls_score.shape[2:]
        hidden = unlikely.view(cls_score.shape[0], height, width, 1, -1).permute(0, 4, 3, 1, 2)  # (B, A, 1, H, W)
        logits = cls_score.unflatten(1, (-1, self.cls_out_channels))
        classes = logits[:, :, : self.num_classes].masked_fill(hidden, torch.finfo(logits.dtype).min)
        return torch.cat([classes, logits[:, :, self.num_classes :]], 2).flatten(1, 2)

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        mlvl_anchors: list[Tensor],
        mlvl_masks: list[Tensor],
        img_meta: dict,
        cfg: ConfigType,
        rescale: bool = False,
    ) -> InstanceData:
        """Detections of one image.

        Args:
            mlvl_anchors: ``[(n, 4)]`` guided anchors of the n locations of a level that ``mlvl_masks [(P,)]`` mark.
        """
        levels = [unmap(get_box_tensor(level), len(mask), mask) for level, mask in zip(mlvl_anchors, mlvl_masks)]
        guided = Priors(torch.cat(levels)[None], torch.cat(mlvl_masks).bool()[None], [len(mask) for mask in mlvl_masks])
        scores, deltas = ([level[None] for level in maps] for maps in (cls_scores, bbox_preds))
        cfg = self.test_cfg if cfg is None else cfg
        return self._predict_guided(scores, deltas, guided, [img_meta], cfg, rescale)[0]
