"""YOLOX (arXiv:2107.08430). Letters: B images, P points of all levels, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    PaddedGT,
    Priors,
    TestCfg,
    by_batch,
    detections,
    flatten_outputs,
    mean_count,
    multi_apply,
)
from mmdet.models.layers.building import KAIMING_UNIFORM, conv_module_class
from mmdet.models.task_modules.prior_generators import MlvlPointGenerator
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.ops.one_hot import one_hot
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList, OptMultiConfig

from . import family_joints, joints
from .base_dense_head import BaseDenseHead


@MODELS.register_module()
class YOLOXHead(BaseDenseHead):
    """Two towers for each level (Fig. 2): one for the classes, one for box and objectness of each cell.

    Boxes are the offset of the centre from the corner of its cell and the logarithms of the sides, in strides. The
    losses are summed over the positives of all processes and divided by their mean number.

    Args:
        loss_l1: Loss of the raw box outputs, for the last epochs (Sec. 2.1): while ``use_l1`` is set.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 2,
        strides: Sequence[int] = (8, 16, 32),
        use_depthwise: bool = False,
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = 'auto',
        conv_cfg: OptConfigType = None,
        norm_cfg: ConfigType = dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg: ConfigType = dict(type='Swish'),
        loss_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0),
        loss_bbox: ConfigType = dict(type='IoULoss', mode='square', eps=1e-16, reduction='sum', loss_weight=5.0),
        loss_obj: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0),
        loss_l1: ConfigType = dict(type='L1Loss', reduction='sum', loss_weight=1.0),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = KAIMING_UNIFORM,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if conv_bias != 'auto' and not isinstance(conv_bias, bool):
            raise UserValueError(f"conv_bias must be True, False or 'auto', not {conv_bias!r}")
        self.num_classes, self.cls_out_channels, self.in_channels = num_classes, num_classes, in_channels
        self.feat_channels, self.stacked_convs, self.strides = feat_channels, stacked_convs, strides
        self.use_depthwise, self.dcn_on_last_conv, self.conv_bias = use_depthwise, dcn_on_last_conv, conv_bias
        self.use_sigmoid_cls = True
        self.conv_cfg, self.norm_cfg, self.act_cfg = conv_cfg, norm_cfg, act_cfg
        self.loss_cls, self.loss_bbox = MODELS.build(loss_cls), MODELS.build(loss_bbox)
        self.loss_obj, self.loss_l1 = MODELS.build(loss_obj), MODELS.build(loss_l1)
        self.use_l1 = False
        self.prior_generator = MlvlPointGenerator(strides, offset=0)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg['assigner'])
            self.sampler = PseudoSampler()
        self._init_layers()

    def _init_layers(self) -> None:
        levels = range(len(self.strides))
        self.multi_level_cls_convs = nn.ModuleList(self._build_stacked_convs() for _ in levels)
        self.multi_level_reg_convs = nn.ModuleList(self._build_stacked_convs() for _ in levels)
        predictors = zip(*(self._build_predictor() for _ in levels))
        self.multi_level_conv_cls, self.multi_level_conv_reg, self.multi_level_conv_obj = map(nn.ModuleList, predictors)

    def _build_stacked_convs(self) -> nn.Sequential:
        """The tower of one level and branch."""
        module, layers = conv_module_class(self.use_depthwise), []
        for i in range(self.stacked_convs):
            last = self.dcn_on_last_conv and i == self.stacked_convs - 1
            layers.append(
                module(
                    self.feat_channels if i else self.in_channels,
                    self.feat_channels,
                    3,
                    padding=1,
                    conv_cfg=dict(type='DCNv2') if last else self.conv_cfg,
                    norm_cfg=self.norm_cfg,
                    act_cfg=self.act_cfg,
                    bias=self.conv_bias,
                )
            )
        return nn.Sequential(*layers)

    def _build_predictor(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Classes, boxes and objectness of one level."""
        return tuple(nn.Conv2d(self.feat_channels, channels, 1) for channels in (self.cls_out_channels, 4, 1))  # type: ignore[return-value]

    def init_weights(self) -> None:
        super().init_weights()
        for conv in (*self.multi_level_conv_cls, *self.multi_level_conv_obj):
            nn.init.constant_(conv.bias, bias_init_with_prob(0.01))

    # Each level has layers of its own, as in 3.x.
    def forward_single(  # type: ignore[override]
        self,
        x: Tensor,
        cls_convs: nn.Module,
        reg_convs: nn.Module,
        conv_cls: nn.Module,
        conv_reg: nn.Module,
        conv_obj: nn.Module,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits ``(B, C, H, W)``, boxes ``(B, 4, H, W)`` and objectness logits ``(B, 1, H, W)``."""
        reg_feat = reg_convs(x)
        return conv_cls(cls_convs(x)), conv_reg(reg_feat), conv_obj(reg_feat)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        return multi_apply(
            self.forward_single,
            x,
            self.multi_level_cls_convs,
            self.multi_level_reg_convs,
            self.multi_level_conv_cls,
            self.multi_level_conv_reg,
            self.multi_level_conv_obj,
        )

    def _make_priors(self, *args: Any, **options: Any) -> Priors:
        """Corners of the cells ``(1, P, 4)`` with their strides."""
        return super()._make_priors(*args, with_stride=True, **options)

    def _bbox_decode(self, priors: Tensor, bbox_preds: Tensor) -> Tensor:
        """xyxy boxes ``(B, P, 4)`` in pixels of outputs of the same shape."""
        centers = bbox_preds[..., :2] * priors[..., 2:] + priors[..., :2]
        half = bbox_preds[..., 2:].exp() * priors[..., 2:] / 2
        return torch.cat([centers - half, centers + half], -1)

    @torch.no_grad()
    def predict_by_feat(  # type: ignore[override]  # objectnesses in the place of score factors, as in 3.x
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        objectnesses: list[Tensor],
        batch_img_metas: list[dict] | None = None,
        cfg: OptConfigType = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Detections of each image: the best class of every cell, by its probability times the objectness."""
        cfg = self.test_cfg if cfg is None else cfg
        logits, preds, objects = flatten_outputs(
            (cls_scores, self.cls_out_channels), (bbox_preds, 4), (objectnesses, 1)
        )
        scores, labels = logits.float().sigmoid().max(-1)
        # Sides of an untrained network stay numbers.
        preds = torch.cat([preds[..., :2], preds[..., 2:].clamp(max=20)], -1).float()
        fields = dict(
            bboxes=self._bbox_decode(self._priors(cls_scores).boxes, preds),
            scores=scores * objects[..., 0].float().sigmoid(),
            labels=labels,
        )
        metas = batch_img_metas or [{}] * len(logits)
        if hasattr(self._bbox_post_process, 'by_batch'):
            return detections(fields, TestCfg.read(cfg), metas, rescale, with_nms, 'labels')
        return joints.post_process_each_image(self, fields, TestCfg.read(cfg).score_thr, metas, cfg, rescale, with_nms)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        objectnesses: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls``, ``loss_bbox``, ``loss_obj`` and, while ``use_l1``, ``loss_l1``."""
        logits, preds, objects = flatten_outputs(
            (cls_scores, self.cls_out_channels), (bbox_preds, 4), (objectnesses, 1)
        )
        priors = self._priors(cls_scores)
        boxes, gt = (
            self._bbox_decode(priors.boxes, preds),
            PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore),
        )
        outputs = logits.detach(), boxes.detach(), objects.detach()[..., 0]
        if hasattr(self._get_targets_single, 'by_batch'):
            pos, classes, box_targets, raw_targets = self._targets(priors.boxes, *outputs, gt)
        else:
            pos, classes, box_targets, raw_targets = family_joints.cell_targets_of_each_image(
                self, priors.boxes[0], *outputs, gt, batch_img_metas
            )
        weight = pos.to(boxes.dtype)
        total = mean_count(pos.sum())
        where = pos[..., None]
        rows = lambda value, target: (value.flatten(0, 1), torch.where(where, target, value.detach()).flatten(0, 1))
        each = weight[..., None].expand_as(logits).flatten(0, 1)
        losses = dict(
            loss_cls=self.loss_cls(logits.flatten(0, 1), classes.flatten(0, 1), each) / total,
            loss_bbox=self.loss_bbox(*rows(boxes, box_targets), weight.flatten()) / total,
            loss_obj=self.loss_obj(objects.reshape(-1, 1), weight.reshape(-1, 1)) / total,
        )
        if self.use_l1:
            each = where.expand_as(preds).to(preds.dtype).flatten(0, 1)
            losses['loss_l1'] = self.loss_l1(*rows(preds, raw_targets), each) / total
        return losses

    @torch.no_grad()
    def _targets(
        self, priors: Tensor, logits: Tensor, boxes: Tensor, objects: Tensor, gt: PaddedGT
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Positives ``(B, P)``, their classes ``(B, P, C)`` by overlap, boxes and raw boxes ``(B, P, 4)``."""
        centers = torch.cat([priors[..., :2] + priors[..., 2:] / 2, priors[..., 2:]], -1)
        valid = torch.ones_like(objects, dtype=torch.bool)
        scores = (logits.float().sigmoid() * objects.float().sigmoid()[..., None]).sqrt()
        grid = Priors(centers, valid, [centers.shape[1]])
        assignment = self._assign(self.assigner, grid, gt, dict(scores=scores, bboxes=boxes))
        pos, quality = assignment.pos, assignment.quality
        matched, labels = gt.gather(assignment.gt_inds)
        classes = one_hot(labels, self.num_classes, quality.dtype) * torch.where(pos, quality, 0.0)[..., None]
        return pos, classes, matched, self._get_l1_target(torch.zeros_like(matched), matched, priors)

    def _get_l1_target(self, l1_target: Tensor, gt_bboxes: Tensor, priors: Tensor, eps: float = 1e-8) -> Tensor:
        """Raw outputs ``(..., 4)`` that would decode to ``gt_bboxes``; ``l1_target`` has their shape and type."""
        centers, sides = (gt_bboxes[..., :2] + gt_bboxes[..., 2:]) / 2, gt_bboxes[..., 2:] - gt_bboxes[..., :2]
        raw = torch.cat([(centers - priors[..., :2]) / priors[..., 2:], (sides / priors[..., 2:] + eps).log()], -1)
        return raw.to(l1_target)

    @by_batch
    @torch.no_grad()
    def _get_targets_single(
        self,
        priors: Tensor,
        cls_preds: Tensor,
        decoded_bboxes: Tensor,
        objectness: Tensor,
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int]:
        """Positives ``(P,)``, classes ``(n, C)``, objectness ``(P, 1)``, boxes and raw boxes ``(n, 4)`` of the n
        positives of one image, and n."""
        gt = PaddedGT.from_instances([gt_instances], [gt_instances_ignore])
        values = self._targets(priors[None], cls_preds[None], decoded_bboxes[None], objectness[None], gt)
        pos, classes, boxes, raw = (value[0] for value in values)
        raw = raw[pos] if self.use_l1 else raw[:0]
        return pos, classes[pos], pos[:, None].to(classes), boxes[pos], raw, int(pos.sum())
