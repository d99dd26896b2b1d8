"""TOOD (arXiv:2108.07755). Letters: B images, P anchors of all levels, C classes, N layers of the shared tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, Scale
from mmengine.logging import MessageHub
from mmengine.model import bias_init_with_prob, normal_init
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    Priors,
    by_batch,
    flatten_levels,
    flatten_outputs,
    share_of_best,
    sigmoid_geometric_mean,
    split_levels,
)
from mmdet.ops.deform_conv import deform_conv2d
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import distance2bbox

from . import family_joints
from .atss_head import ATSSHead
from .metric_targets import MetricTargets


class TaskDecomposition(nn.Module):
    """The features of one task: those of all layers of the tower, weighted and mixed (Sec. 3.1, layer attention).

    Args:
        la_down_rate: By how much the attention narrows the channels.
    """

    def __init__(
        self, feat_channels: int, stacked_convs: int, la_down_rate: int = 8, conv_cfg=None, norm_cfg=None
    ) -> None:
        super().__init__()
        self.feat_channels, self.stacked_convs, self.norm_cfg = feat_channels, stacked_convs, norm_cfg
        self.in_channels = width = feat_channels * stacked_convs
        narrow = width // la_down_rate
        self.layer_attention = nn.Sequential(
            nn.Conv2d(width, narrow, 1), nn.ReLU(inplace=True), nn.Conv2d(narrow, stacked_convs, 1), nn.Sigmoid()
        )
        self.reduction_conv = ConvModule(
            width, feat_channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, bias=norm_cfg is None
        )

    def init_weights(self) -> None:
        """Small random weights."""
        for module in self.layer_attention.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.001)
        normal_init(self.reduction_conv.conv, std=0.01)

    def forward(self, feat: Tensor, avg_feat: Tensor | None = None) -> Tensor:
        """``(B, N * channels, H, W)`` to ``(B, channels, H, W)``.

        Args:
            avg_feat: ``(B, N * channels, 1, 1)`` means over the positions; computed where it is not given.
        """
        batch, _, height, width = feat.shape
        if avg_feat is None:
            avg_feat = F.adaptive_avg_pool2d(feat, (1, 1))
        attention = self.layer_attention(avg_feat).reshape(batch, 1, self.stacked_convs, 1)
        kernel = self.reduction_conv.conv.weight.reshape(1, self.feat_channels, self.stacked_convs, -1) * attention
        mixed = kernel.reshape(batch, self.feat_channels, -1) @ feat.flatten(2)  # a kernel for each image
        mixed = mixed.reshape(batch, self.feat_channels, height, width)
        if self.norm_cfg is not None:
            mixed = self.reduction_conv.norm(mixed)
        return self.reduction_conv.activate(mixed)


@MODELS.register_module()
class TOODHead(MetricTargets, ATSSHead):  # type: ignore[misc]  # its losses know no centerness
    """One tower for both tasks, of whose layers each task takes its share, and predictions aligned by each other.

    Args:
        num_dcn: Layers of the tower that are deformable, from the first.
        anchor_type: 'anchor_free' for distances in strides from the anchor's centre, 'anchor_based' for deltas.
        initial_loss_cls: Loss of the classes before ``train_cfg.initial_epoch``. Until then the positives are those of
            ``train_cfg.initial_assigner``, later those of ``train_cfg.assigner`` with ``train_cfg.alpha`` and ``beta``.

    Which epoch it is says ``epoch``, set by `SetEpochInfoHook`, else the message hub of the run; 0 where nobody says.
    """

    epoch: int | None = None

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_dcn: int = 0,
        anchor_type: str = 'anchor_free',
        initial_loss_cls=dict(
            type='FocalLoss', use_sigmoid=True, activated=True, gamma=2.0, alpha=0.25, loss_weight=1.0
        ),
        **kwargs,
    ) -> None:
        if anchor_type not in ('anchor_free', 'anchor_based'):
            raise UserValueError(f"anchor_type must be 'anchor_free' or 'anchor_based', not {anchor_type!r}")
        self.num_dcn, self.anchor_type = num_dcn, anchor_type
        super().__init__(num_classes, in_channels, **kwargs)
        if self.train_cfg:
            self.initial_epoch = self.train_cfg['initial_epoch']
            self.initial_assigner = TASK_UTILS.build(self.train_cfg['initial_assigner'])
            self.initial_loss_cls = MODELS.build(initial_loss_cls)
            self.alignment_assigner, self.assigner = self.assigner, self.initial_assigner
            self.alpha, self.beta = self.train_cfg['alpha'], self.train_cfg['beta']

    def _init_layers(self) -> None:
        width, channels = self.feat_channels * self.stacked_convs, self.feat_channels
        self.relu = nn.ReLU(inplace=True)
        self.inter_convs = nn.ModuleList(
            ConvModule(
                channels if i else self.in_channels,
                channels,
                3,
                padding=1,
                conv_cfg=dict(type='DCNv2', deform_groups=4) if i < self.num_dcn else self.conv_cfg,
                norm_cfg=self.norm_cfg,
            )
            for i in range(self.stacked_convs)
        )
        mix = (self.conv_cfg, self.norm_cfg)
        self.cls_decomp = TaskDecomposition(channels, self.stacked_convs, self.stacked_convs * 8, *mix)
        self.reg_decomp = TaskDecomposition(channels, self.stacked_convs, self.stacked_convs * 8, *mix)
        self.tood_cls = nn.Conv2d(channels, self.num_base_priors * self.cls_out_channels, 3, padding=1)
        self.tood_reg = nn.Conv2d(channels, self.num_base_priors * 4, 3, padding=1)
        aligner = lambda outputs: nn.Sequential(
            nn.Conv2d(width, channels // 4, 1), nn.ReLU(inplace=True), nn.Conv2d(channels // 4, outputs, 3, padding=1)
        )
        self.cls_prob_module, self.reg_offset_module = aligner(1), aligner(4 * 2)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)

    def init_weights(self) -> None:
        rare = bias_init_with_prob(0.01)
        for conv in self.inter_convs:
            normal_init(conv.conv, std=0.01)
        for part in (self.cls_decomp, self.reg_decomp):
            part.init_weights()
        for module, bias in ((self.cls_prob_module, rare), (self.reg_offset_module, 0)):
            normal_init(module[0], std=0.01)
            normal_init(module[-1], std=0.001 if bias == 0 else 0.01, bias=bias)
        normal_init(self.tood_cls, std=0.01, bias=rare)
        normal_init(self.tood_reg, std=0.01)

    def forward(  # type: ignore[override]  # two outputs
        self, feats: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Class probabilities ``[(B, C, H, W)]`` and xyxy boxes in strides ``[(B, 4, H, W)]``."""
        scores, boxes = [], []
        priors = self._priors(feats)
        anchors = split_levels(priors.boxes[0], priors.level_sizes, 0)
        for x, scale, grid, stride in zip(feats, self.scales, anchors, self.prior_generator.strides):
            layers = []
            for conv in self.inter_convs:
                x = conv(x)
                layers.append(x)
            feat = torch.cat(layers, 1)
            mean = F.adaptive_avg_pool2d(feat, (1, 1))
            logits = self.tood_cls(self.cls_decomp(feat, mean))
            scores.append(sigmoid_geometric_mean(logits, self.cls_prob_module(feat).expand_as(logits)))
            raw = self.tood_reg(self.reg_decomp(feat, mean))
            raw = flatten_levels([scale(raw.exp() if self.anchor_type == 'anchor_free' else raw).float()], 4)
            found = self._boxes_in_strides(grid, raw, stride[0])
            found = found.transpose(1, 2).reshape(x.shape[0], 4, *x.shape[2:])
            moved = self.deform_sampling(found, self.reg_offset_module(feat))
            upside_down = (moved[:, :2] > moved[:, 2:]).any(1, keepdim=True)
            boxes.append(torch.where(upside_down, found, moved))
        return scores, boxes

    def _boxes_in_strides(self, anchors: Tensor, raw: Tensor, stride: int) -> Tensor:
        """xyxy boxes ``(B, P, 4)`` of deltas or distances ``(B, P, 4)``."""
        anchors = anchors.expand_as(raw)
        if self.anchor_type == 'anchor_based':
            return self.bbox_coder.decode(anchors, raw) / stride
        return distance2bbox(self.anchor_center(anchors) / stride, raw)

    def deform_sampling(self, feat: Tensor, offset: Tensor) -> Tensor:
        """Each side ``(B, 4, H, W)`` read at a place that is ``offset (B, 4 * 2, H, W)`` yx away (Eq. 5)."""
        channels = feat.shape[1]
        weight = feat.new_ones(channels, 1, 1, 1)
        return deform_conv2d(feat, offset.to(feat), weight, 1, 0, 1, channels, channels)

    def anchor_center(self, anchors: Tensor) -> Tensor:
        """Centres ``(..., 2)`` of xyxy anchors ``(..., 4)``."""
        return (anchors[..., :2] + anchors[..., 2:]) / 2

    @property
    def is_initial(self) -> bool:
        """Whether training is in its first epochs."""
        epoch = self.epoch
        if epoch is None:
            epoch = MessageHub.get_current_instance().get_info('epoch', 0)
        return epoch < self.initial_epoch

    def _pixel_boxes(self, priors: Priors, preds: Tensor) -> Tensor:
        return preds * self._candidate_strides(priors.level_sizes, preds)

    def _activate(self, logits: Tensor) -> Tensor:
        return logits  # probabilities already

    def _decode_boxes(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> Tensor:
        return preds * self._candidate_strides(sizes, preds)

    def _metric_targets(
        self, logits: Tensor, boxes: Tensor, priors: Priors, gt: PaddedGT, metas: list[dict]
    ) -> DenseTargets:
        if not self.is_initial:
            return super()._metric_targets(logits, boxes, priors, gt, metas)
        self._check_shapes(metas)  # then by anchors and their levels, of which the method of one image knows nothing
        return self._match(logits, boxes, self._inside(priors, metas), gt)[0]

    def _match(self, logits: Tensor, boxes: Tensor, priors: Priors, gt: PaddedGT) -> tuple[DenseTargets, Assignment]:
        if not self.is_initial:
            self.assigner, self.assigner_options = self.alignment_assigner, dict(alpha=self.alpha, beta=self.beta)
            return super()._match(logits, boxes, priors, gt)
        self.assigner, self.assigner_options = self.initial_assigner, {}
        return super()._match(logits, boxes, priors, gt)

    def _metrics(self, assignment: Assignment, gt: PaddedGT) -> Tensor:
        if self.is_initial:
            return assignment.pos.to(gt.boxes.dtype)
        metric = assignment.extras['assign_metrics']
        return share_of_best(metric, assignment.quality, assignment, gt)

    def _losses(  # type: ignore[override]  # of probabilities and boxes, and without a factor
        self, scores: Tensor, boxes: Tensor, anchors: Tensor, targets: DenseTargets, stride: Tensor | int | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of classes and boxes (Sec. 3.2), and the sums of their weights.

        Args:
            boxes: ``(B, P, 4)`` in pixels.
            stride: Of the one level; None for those of all levels.
        """
        t, metrics = targets, targets.extras['metrics']
        stride = self._candidate_strides(t.level_sizes, boxes) if stride is None else stride
        target = torch.where(t.pos[..., None], t.bbox_targets, boxes.detach())  # finite, and no loss, elsewhere
        initial = self.is_initial
        labels, metric = t.labels.flatten(), metrics.flatten()
        loss_cls = (self.initial_loss_cls if initial else self.loss_cls)(
            scores.flatten(0, 1), labels if initial else (labels, metric), t.label_weights.flatten(), avg_factor=1.0
        )
        weight = (self.centerness_target(anchors, target) if initial else metrics) * t.pos
        loss_bbox = self._loss(self.loss_bbox, t.level_sizes, boxes / stride, target / stride, weight, avg_factor=1.0)
        return loss_cls, loss_bbox, metrics.sum(), weight.sum()

    @by_batch
    def loss_by_feat_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        anchors: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        alignment_metrics: Tensor,
        stride: Sequence[int],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of one level, whose boxes ``(B, 4, H, W)`` are in strides, and the sums of their weights."""
        targets = family_joints.with_metrics([labels, label_weights, bbox_targets, alignment_metrics], self.num_classes)
        scores, boxes = flatten_outputs(([cls_score], self.cls_out_channels), ([bbox_pred], 4))
        return self._losses(scores, boxes * stride[0], anchors, targets, stride[0])

    def _single_losses(self, cls_scores, bbox_preds, boxes: Tensor, anchors: Tensor, targets: DenseTargets) -> tuple:
        """The values of an own :meth:`loss_by_feat_single`, by level."""
        return family_joints.metric_losses(self, (cls_scores, bbox_preds), (), targets, first=(anchors,))
