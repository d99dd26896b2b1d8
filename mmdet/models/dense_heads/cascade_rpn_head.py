"""Cascade RPN (arXiv:1909.06720). Letters: B images, P anchors of all levels, one at each location."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    Priors,
    by_batch,
    cell_grid,
    flatten_levels,
    image_shapes,
    in_float32,
    map_sizes,
    multi_apply,
    per_level,
    split_levels,
    unpack_gt_instances,
)
from mmdet.models.task_modules.assigners import RegionAssigner
from mmdet.ops import DeformConv2d
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList, OptMultiConfig

from . import guided_joints, joints
from .base_dense_head import BaseDenseHead
from .rpn_head import RPNHead

ADAPTED_KERNEL = 3  # sides of the kernels that follow anchors
SHARE_OF_ANCHORS = 200  # which divides their number in the normaliser where no sampler draws, as in Guided Anchoring


class AdaptiveConv(BaseModule):
    """A convolution whose kernel reaches to the border of the anchor (Sec. 3.2).

    Args:
        adapt_type: 'offset' for a deformable convolution that is given offsets; 'dilation' for one that all anchors
            share, of the same size on every level.
        padding, stride, groups: Must be 1 for 'offset'; the dilated one has its own.
        bias: Must be False for 'offset'; the dilated one always has one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = ADAPTED_KERNEL,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 3,
        groups: int = 1,
        bias: bool = False,
        adapt_type: str = 'dilation',
        init_cfg: OptMultiConfig = dict(type='Normal', std=0.01, override=dict(name='conv')),
    ) -> None:
        super().__init__(init_cfg)
        if adapt_type not in ('offset', 'dilation'):
            raise UserValueError(f"adapt_type must be 'offset' or 'dilation', not {adapt_type!r}")
        if kernel_size != ADAPTED_KERNEL:
            raise UserValueError(f'AdaptiveConv has kernels of {ADAPTED_KERNEL}, not kernel_size={kernel_size}')
        self.adapt_type = adapt_type
        if adapt_type == 'offset':
            if (stride, padding, groups) != (1, 1, 1):
                raise UserValueError(
                    f'AdaptiveConv by offsets has stride, padding and groups of 1, not {stride}, {padding}, {groups}'
                )
            self.conv: nn.Module = DeformConv2d(in_channels, out_channels, kernel_size, padding=padding, bias=bias)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor, offset: Tensor | None) -> Tensor:
        """``x (B, C, H, W)`` and the offsets ``(B, H * W, 18)``, which a dilated convolution does without."""
        if self.adapt_type == 'dilation':
            return self.conv(x)
        if offset is None:
            raise UserValueError("AdaptiveConv of adapt_type='offset' needs offsets")
        return self.conv(x, offset.transpose(1, 2).unflatten(2, x.shape[2:]).contiguous())


class RunsStages:
    """Mixin that runs ``stages`` one after another, each on the anchors that the one before has refined."""

    stages: Any

    def _run(
        self, x: Sequence[Tensor], metas: list[dict] | None, truth: tuple[InstanceList, OptInstanceList] | None = None
    ) -> tuple[list[dict], tuple[list, Any, list[Tensor]]]:
        """The losses of each stage, where there are ground truths and ignored regions, and the anchors, class logits
        and deltas of the last one."""
        first, losses = self.stages[0], []
        sizes, device = map_sizes(x), x[0].device
        if metas is None or hasattr(first.get_anchors, 'by_batch'):
            priors = first._priors(x, None if truth is None else metas)
            priors = replace(priors, valid=priors.valid.expand(x[0].shape[0], -1))
            anchors, flags = joints.priors_as_lists(priors)
        else:
            anchors, flags = first.get_anchors(sizes, metas, device=device)
        for i, stage in enumerate(self.stages):
            offsets = None
            if stage.adapt_cfg['type'] == 'offset':
                offsets = stage.anchor_offset(anchors, stage.anchor_strides, sizes)
            x, scores, deltas = stage(x, offsets)
            if truth is not None:
                instances, ignored = truth
                losses.append(stage.loss_by_feat(anchors, flags, scores, deltas, instances, metas, ignored))
            if i < len(self.stages) - 1:
                anchors = stage.refine_bboxes(anchors, deltas, metas)
        return losses, (anchors, scores, deltas)

    def _named(self, losses: list[dict]) -> dict:
        """The losses of the stages in one dictionary."""
        return {f's{i}.{name}': value for i, stage in enumerate(losses) for name, value in stage.items()}

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: Sequence) -> dict:
        """Losses of feature maps ``[(B, C, H, W)]``."""
        instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        return self._named(self._run(x, metas, (instances, ignored))[0])

    def loss_and_predict(
        self, x: tuple[Tensor, ...], batch_data_samples: Sequence, proposal_cfg: ConfigType | None = None
    ) -> tuple[dict, InstanceList]:
        """Losses, and proposals of the last stage."""
        instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        losses, outputs = self._run(x, metas, (instances, ignored))
        return self._named(losses), self.stages[-1].predict_by_feat(*outputs, batch_img_metas=metas, cfg=proposal_cfg)

    def predict(self, x: tuple[Tensor, ...], batch_data_samples: Sequence, rescale: bool = False) -> InstanceList:
        """Proposals of each image; in pixels of the original image if ``rescale``."""
        metas = [sample.metainfo for sample in batch_data_samples]
        outputs = self._run(x, metas)[1]
        return self.stages[-1].predict_by_feat(*outputs, batch_img_metas=metas, rescale=rescale)


@MODELS.register_module()
class StageCascadeRPNHead(RunsStages, RPNHead):
    """One stage of :class:`CascadeRPNHead`; by itself a cascade of one.

    Args:
        anchor_generator: Of the first stage; the others refine its anchors, and take the strides from here.
        adapt_cfg: ``type`` and further arguments of :class:`AdaptiveConv`.
        bridged_feature: Whether the next stage sees the adapted features, else what this one saw (Fig. 2).
        with_cls: Whether the stage classifies.
        sampling: Taken for compatibility: ``train_cfg`` has a ``sampler`` or not.
    """

    def __init__(
        self,
        in_channels: int,
        anchor_generator: ConfigType = dict(
            type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8, 16, 32, 64]
        ),
        adapt_cfg: ConfigType = dict(type='dilation', dilation=3),
        bridged_feature: bool = False,
        with_cls: bool = True,
        init_cfg: OptMultiConfig = None,
        sampling: bool | None = None,
        **kwargs,
    ) -> None:
        self.with_cls, self.bridged_feature, self.adapt_cfg = with_cls, bridged_feature, adapt_cfg
        self.anchor_strides, self.anchor_scales = anchor_generator['strides'], anchor_generator['scales']
        if init_cfg is None:
            predictors = [dict(name='rpn_reg'), *([dict(name='rpn_cls')] if with_cls else [])]
            init_cfg = dict(type='Normal', std=0.01, override=predictors)
        super().__init__(in_channels, init_cfg=init_cfg, anchor_generator=anchor_generator, **kwargs)
        if self.num_base_priors != 1:
            raise UserValueError(f'StageCascadeRPNHead has one anchor at a location, not {self.num_base_priors}')

    @property
    def stages(self) -> list[StageCascadeRPNHead]:  # type: ignore[override]
        """This one."""
        return [self]

    def _init_layers(self) -> None:
        options = dict(self.adapt_cfg)
        self.rpn_conv = AdaptiveConv(self.in_channels, self.feat_channels, adapt_type=options.pop('type'), **options)
        if self.with_cls:
            self.rpn_cls = nn.Conv2d(self.feat_channels, self.num_base_priors * self.cls_out_channels, 1)
        self.rpn_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * self.reg_dim, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, feats: Sequence[Tensor], offset_list: list[Tensor] | None = None) -> tuple[list, list, list]:  # type: ignore[override]
        """What the next stage sees, class logits and deltas of each level; ``offset_list`` as from
        :meth:`anchor_offset`."""
        offsets: Sequence[Tensor | None] = offset_list or [None] * len(feats)
        return multi_apply(self.forward_single, feats, offsets)  # type: ignore[return-value]

    def forward_single(  # type: ignore[override]  # the arguments of 3.x
        self, x: Tensor, offset: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """The same of one level; None where the stage does not classify."""
        adapted = self.relu(self.rpn_conv(x, offset))
        scores = self.rpn_cls(adapted) if self.with_cls else None
        return adapted if self.bridged_feature else x, scores, self.rpn_reg(adapted)

    # -------------------------------------------------------------------------------------------------- anchors

    def anchor_offset(
        self, anchor_list: list[list[Tensor]], anchor_strides: Sequence[int], featmap_sizes: list[tuple]
    ) -> list[Tensor]:
        """Offsets ``[(B, P_level, 18)]`` by level, y before x, that spread a kernel over each anchor (Eq. 6 and 7)."""
        priors = joints.priors_of(anchor_list)
        boxes = priors.boxes.expand(priors.valid.shape[0], -1, -1)
        boxes = boxes / per_level(anchor_strides, priors.level_sizes, boxes)[:, None]
        center = (boxes[..., :2] + boxes[..., 2:]) * 0.5 - cell_grid(featmap_sizes, boxes.device)  # (B, P, 2) from x
        reach = (boxes[..., 2:] - boxes[..., :2]) / (ADAPTED_KERNEL - 1) - 1  # beyond what an undeformed kernel has
        step = torch.arange(ADAPTED_KERNEL, device=boxes.device) - ADAPTED_KERNEL // 2
        steps = torch.stack(torch.meshgrid(step, step, indexing='ij'), -1).flatten(0, 1)  # (9, 2) y, x
        offsets = center.flip(-1)[:, :, None] + reach.flip(-1)[:, :, None] * steps  # (B, P, 9, 2)
        return split_levels(offsets.flatten(-2), priors.level_sizes)

    def refine_bboxes(
        self, anchor_list: list[list[Tensor]], bbox_preds: list[Tensor], img_metas: list[dict] | None
    ) -> list[list[Tensor]]:
        """The boxes of this stage as anchors of the next, lists by image of lists by level; clipped to the pictures
        where they are known."""
        priors, deltas = joints.priors_of(anchor_list), flatten_levels(bbox_preds, self.reg_dim).detach()
        boxes = priors.boxes.expand(deltas.shape[0], -1, -1)
        shapes = None if img_metas is None else image_shapes(img_metas)
        boxes = get_box_tensor(self.bbox_coder.decode(boxes, deltas, max_shape=shapes))
        return joints.priors_as_lists(Priors(boxes, priors.valid, priors.level_sizes, priors.strides))[0]

    # --------------------------------------------------------------------------------------------------- targets

    def get_targets(  # type: ignore[override]  # the arguments of 3.x
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        featmap_sizes: list[tuple],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
        return_sampling_results: bool = False,
    ) -> DenseTargets | tuple:
        """As :meth:`AnchorHead.get_targets`; by :meth:`region_targets` where a `RegionAssigner` chooses."""
        lists, wanted = (anchor_list, valid_flag_list), return_sampling_results
        truth = batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        if isinstance(self.assigner, RegionAssigner):
            return self.region_targets(*lists, featmap_sizes, *truth, wanted)
        return super().get_targets(*lists, *truth, return_sampling_results=wanted)

    def region_targets(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        featmap_sizes: list[tuple],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
        return_sampling_results: bool = False,
    ) -> DenseTargets | tuple:
        """Targets of anchors by the regions that they lie in."""
        priors = self._inside(joints.priors_from_lists(anchor_list, valid_flag_list), batch_img_metas)
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        if not hasattr(self._region_targets_single, 'by_batch'):
            targets = guided_joints.region_targets_of_each_image(self, priors, gt, batch_img_metas, featmap_sizes)
            results = targets.extras['sampling_results']
        else:
            assignment = self._regions(priors, gt, batch_img_metas, featmap_sizes)
            targets, results = self._build_targets(priors, assignment, gt), []
            if return_sampling_results:
                results = joints.sampling_results(targets, priors, gt, assignment, self.sampler)
        lists = joints.TargetLists.of(targets)
        return (*lists, results) if return_sampling_results else lists

    def _regions(self, priors: Priors, gt: PaddedGT, metas: list[dict], featmap_sizes: list[tuple]) -> Assignment:
        options = dict(anchor_scale=self.anchor_scales[0], anchor_strides=self.anchor_strides)
        if not hasattr(self.assigner.assign, 'by_batch'):
            return guided_joints.assign_regions(self, priors, gt, metas, featmap_sizes, **options)
        return self.assigner.assign_batch(priors, gt, featmap_sizes=featmap_sizes, **options)

    @by_batch
    def _region_targets_single(
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None,
        featmap_sizes: list[tuple],
        num_level_anchors: list[int],
    ) -> tuple:
        """What :meth:`AnchorHead._get_targets_single` returns, by regions."""
        priors = Priors(get_box_tensor(flat_anchors)[None], valid_flags.bool()[None], list(num_level_anchors))
        priors, gt = self._inside(priors, [img_meta]), PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        assignment = self._regions(priors, gt, [img_meta], featmap_sizes)
        return joints.image_targets(self._build_targets(priors, assignment, gt), priors, gt, assignment, self.sampler)

    # ---------------------------------------------------------------------------------------------------- losses

    def loss_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        cls_scores: list[Any],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_rpn_cls``, where the stage classifies, and ``loss_rpn_reg``, each a list."""
        self._check_shapes(batch_img_metas)
        truth = batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        targets = self.get_targets(anchor_list, valid_flag_list, map_sizes(bbox_preds), *truth)
        targets = joints.targets_from_lists(targets, self.num_classes)
        anchors = joints.priors_from_lists(anchor_list, valid_flag_list).expanded()
        factor: Any = targets.avg_factor
        if not self.sampler.avg_factor_with_neg:
            factor = targets.labels.numel() / SHARE_OF_ANCHORS
        if hasattr(self.loss_by_feat_single, 'by_batch'):
            logits = flatten_levels(cls_scores, self.cls_out_channels) if self.with_cls else None
            losses = self._losses(logits, flatten_levels(bbox_preds, self.reg_dim), anchors, targets, factor)
            loss_cls, loss_reg = ([loss] for loss in losses)
        else:
            loss_cls, loss_reg = guided_joints.stage_losses(self, cls_scores, bbox_preds, anchors, targets, factor)
        return dict(loss_rpn_cls=loss_cls, loss_rpn_reg=loss_reg) if self.with_cls else dict(loss_rpn_reg=loss_reg)

    def _losses(  # type: ignore[override]  # of a stage without classes too
        self, logits: Tensor | None, deltas: Tensor, anchors: Tensor, targets: DenseTargets, avg_factor: Any
    ) -> tuple[Tensor | None, Tensor]:
        if logits is not None:
            return super()._losses(logits, deltas, anchors, targets, avg_factor)  # type: ignore[return-value]
        pairs = *self._box_pairs(deltas, anchors, targets), targets.bbox_weights
        return None, self._loss(self.loss_bbox, targets.level_sizes, *pairs, avg_factor=avg_factor)

    @by_batch
    def loss_by_feat_single(  # type: ignore[override]  # of a stage without classes too
        self,
        cls_score: Tensor | None,
        bbox_pred: Tensor,
        anchors: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        avg_factor: Any,
    ) -> tuple[Tensor | None, Tensor]:
        """Class loss, None without classes, and box loss of one level; see :meth:`AnchorHead.loss_by_feat_single`."""
        targets = joints.level_targets(self.num_classes, labels, label_weights, bbox_targets, bbox_weights)
        logits = None if cls_score is None else flatten_levels([cls_score], self.cls_out_channels)
        anchors = anchors.reshape(*labels.shape, -1)  # of 3.x they come as (B * P, 4)
        return self._losses(logits, flatten_levels([bbox_pred], self.reg_dim), anchors, targets, avg_factor)

    # ----------------------------------------------------------------------------------------------- predictions

    @torch.no_grad()
    @in_float32
    def predict_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self,
        anchor_list: list[list[Tensor]],
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_img_metas: list[dict],
        cfg: OptConfigType = None,
        rescale: bool = False,
    ) -> InstanceList:
        """Proposals of each image from its anchors, lists by level."""
        cfg, priors = self.test_cfg if cfg is None else cfg, joints.priors_of(anchor_list)
        if not hasattr(self._predict_by_feat_single, 'by_batch'):
            maps = cls_scores, bbox_preds
            return guided_joints.proposals_of_each_image(self, *maps, priors, batch_img_metas, cfg, rescale)
        return self._predict_batch(cls_scores, bbox_preds, None, priors, batch_img_metas, cfg, rescale, True)

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        mlvl_anchors: list[Tensor],
        img_meta: dict,
        cfg: ConfigType,
        rescale: bool = False,
    ) -> InstanceData:
        """Proposals of one image, whose maps are ``(C, H, W)``."""
        priors = joints.priors_of([mlvl_anchors])
        scores, deltas = ([level[None] for level in maps] for maps in (cls_scores, bbox_preds))
        return self._predict_batch(scores, deltas, None, priors, [img_meta], cfg, rescale, True)[0]


@MODELS.register_module()
class CascadeRPNHead(RunsStages, BaseDenseHead):
    """Region proposals in stages, of which each adapts its convolution to the anchors it refines (Algorithm 1).

    Args:
        num_classes: 1, objects.
        num_stages: How many ``stages`` there are.
        stages: Configurations of :class:`StageCascadeRPNHead`, of which the last one must classify.
        train_cfg: One for each stage.
        test_cfg: Of the last stage.
    """

    def __init__(
        self,
        num_classes: int,
        num_stages: int,
        stages: list[ConfigType],
        train_cfg: list[ConfigType] | None,
        test_cfg: ConfigType | None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_classes != 1:
            raise UserValueError(
                f'CascadeRPNHead tells objects from background: num_classes must be 1, not {num_classes}'
            )
        if num_stages != len(stages):
            raise UserValueError(f'num_stages={num_stages}, but there are {len(stages)} stages')
        if train_cfg is not None and len(train_cfg) != num_stages:
            raise UserValueError(f'{num_stages} stages, but {len(train_cfg)} train_cfg: each stage has its own')
        self.num_stages = num_stages
        self.stages = nn.ModuleList()
        for i, stage in enumerate(stages):
            stage = copy.copy(stage)
            stage.update(train_cfg=train_cfg[i] if train_cfg is not None else None, test_cfg=test_cfg)
            self.stages.append(MODELS.build(stage))
        if not self.stages[-1].with_cls:
            raise UserValueError('the last of the stages of CascadeRPNHead must classify: it has with_cls=False')
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:  # type: ignore[override]
        """Class logits and deltas of the last stage, its anchors not clipped, for there is no picture."""
        _, scores, deltas = self._run(x, None)[1]
        return scores, deltas
