"""RTMDet (arXiv:2212.07784). Letters: B images, P points of all levels, C classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, Scale
from mmengine.model import bias_init_with_prob, constant_init, normal_init
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmdet.models.core import Assignment, DenseTargets, PaddedGT, Priors, by_batch, sigmoid_geometric_mean
from mmdet.models.layers.building import conv_module_class
from mmdet.models.layers.transformer import inverse_sigmoid
from mmdet.registry import MODELS

from . import family_joints
from .atss_head import ATSSHead
from .metric_targets import MetricTargets


@MODELS.register_module()
class RTMDetHead(MetricTargets, ATSSHead):  # type: ignore[misc]  # its losses know no centerness
    """Classes weighted by the overlap of their boxes, and distances to the four sides of each point.

    Args:
        with_objectness: Whether the class score is the geometric mean with an objectness.
        act_cfg: Activation of the towers.
    """

    samples_in_targets = True

    cls_convs: Any
    reg_convs: Any
    rtm_cls: Any
    rtm_reg: Any
    rtm_obj: Any

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        with_objectness: bool = True,
        act_cfg=dict(type='ReLU'),
        **kwargs,
    ) -> None:
        self.with_objectness, self.act_cfg = with_objectness, act_cfg
        super().__init__(num_classes, in_channels, **kwargs)

    def _towers_of(self, module: type[nn.Module] = ConvModule) -> nn.ModuleList:
        """The convolutions of one branch."""
        widths = [self.in_channels, *[self.feat_channels] * (self.stacked_convs - 1)]
        options = dict(padding=1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        return nn.ModuleList(module(width, self.feat_channels, 3, **options) for width in widths)

    def _predictor(self, channels: int) -> nn.Conv2d:
        kernel = self.pred_kernel_size
        return nn.Conv2d(self.feat_channels, self.num_base_priors * channels, kernel, padding=kernel // 2)

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = self._towers_of(), self._towers_of()
        self.rtm_cls, self.rtm_reg = self._predictor(self.cls_out_channels), self._predictor(4)
        if self.with_objectness:
            self.rtm_obj = self._predictor(1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)

    def init_weights(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, mean=0, std=0.01)
            if isinstance(module, _NormBase):
                constant_init(module, 1)
            if isinstance(module, nn.Conv2d) and name.startswith(('rtm_cls', 'rtm_obj')):
                normal_init(module, std=0.01, bias=bias_init_with_prob(0.01))

    def forward(  # type: ignore[override]  # two outputs
        self, feats: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits ``[(B, C, H, W)]`` and distances in pixels ``[(B, 4, H, W)]``."""
        outputs = []
        for x, scale, stride in zip(feats, self.scales, self.prior_generator.strides):
            branches = self.cls_convs, self.reg_convs, self.rtm_cls, self.rtm_reg
            logits, distances = self._branches(x, *branches, getattr(self, 'rtm_obj', None))
            outputs.append((logits, scale(distances.exp()).float() * stride[0]))
        scores, boxes = map(list, zip(*outputs))
        return scores, boxes

    def _branches(
        self,
        x: Tensor,
        cls_convs: nn.ModuleList,
        reg_convs: nn.ModuleList,
        rtm_cls: nn.Module,
        rtm_reg: nn.Module,
        rtm_obj: nn.Module | None,
    ) -> tuple[Tensor, Tensor]:
        cls_feat = through(cls_convs, x)
        reg_feat = cls_feat if reg_convs is cls_convs else through(reg_convs, x)
        logits = rtm_cls(cls_feat)
        if rtm_obj is not None:
            logits = inverse_sigmoid(sigmoid_geometric_mean(logits, rtm_obj(reg_feat).expand_as(logits)))
        return logits, rtm_reg(reg_feat)

    def _make_priors(self, *args: Any, **options: Any) -> Priors:
        """Points ``(1, P, 4)`` with their strides, by which the assigner measures."""
        return super()._make_priors(*args, with_stride=True, **options)

    def _pixel_boxes(self, priors: Priors, preds: Tensor) -> Tensor:
        return self.bbox_coder.decode(priors.boxes[..., :2].expand(preds.shape[0], -1, -1), preds)

    def _decode_boxes(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> Tensor:
        return self.bbox_coder.decode(priors[..., :2], preds, max_shape=shapes)

    def _metrics(self, assignment: Assignment, gt: PaddedGT) -> Tensor:
        return torch.where(assignment.pos, assignment.quality, 0.0)

    def _losses(  # type: ignore[override]  # of boxes, and without a factor
        self, logits: Tensor, boxes: Tensor, anchors: Tensor, targets: DenseTargets
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of classes and boxes (Sec. 3.3), and the sums of their weights.

        Args:
            boxes: ``(B, P, 4)`` in pixels.
        """
        t, metrics, sizes = targets, targets.extras['metrics'], targets.level_sizes
        target = torch.where(t.pos[..., None], t.bbox_targets, boxes.detach())  # finite, and no loss, elsewhere
        weight = metrics * t.pos
        loss_cls = self.loss_cls(
            logits.flatten(0, 1), (t.labels.flatten(), metrics.flatten()), t.label_weights.flatten(), avg_factor=1.0
        )
        loss_bbox = self._loss(self.loss_bbox, sizes, boxes, target, weight, avg_factor=1.0)
        return loss_cls, loss_bbox, metrics.sum(), weight.sum()

    @by_batch
    def loss_by_feat_single(  # type: ignore[override]  # the arguments of 3.x
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        assign_metrics: Tensor,
        stride: Sequence[int],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of one level, whose boxes ``(B, P, 4)`` are in pixels, and the sums of their weights."""
        targets = family_joints.with_metrics([labels, label_weights, bbox_targets, assign_metrics], self.num_classes)
        logits = cls_score.permute(0, 2, 3, 1).reshape(len(cls_score), -1, self.cls_out_channels)
        boxes = bbox_pred.reshape(len(cls_score), -1, 4)
        return self._losses(logits, boxes, boxes, targets)

    def _single_losses(self, cls_scores, bbox_preds, boxes: Tensor, anchors: Tensor, targets: DenseTargets) -> tuple:
        """The values of an own :meth:`loss_by_feat_single`, by level."""
        return family_joints.metric_losses(self, (cls_scores,), (boxes,), targets)


@MODELS.register_module()
class RTMDetSepBNHead(RTMDetHead):
    """RTMDetHead whose levels share the convolutions but not the norms.

    Args:
        share_conv: Whether they share them.
        use_depthwise: Whether the towers are of depthwise separable convolutions.
        exp_on_reg: Whether distances go through an exponential; else they are plain.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        share_conv: bool = True,
        use_depthwise: bool = False,
        norm_cfg=dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg=dict(type='SiLU'),
        pred_kernel_size: int = 1,
        exp_on_reg: bool = False,
        **kwargs,
    ) -> None:
        self.share_conv, self.use_depthwise, self.exp_on_reg = share_conv, use_depthwise, exp_on_reg
        super().__init__(
            num_classes, in_channels, norm_cfg=norm_cfg, act_cfg=act_cfg, pred_kernel_size=pred_kernel_size, **kwargs
        )

    def _init_layers(self) -> None:
        levels, module = range(len(self.prior_generator.strides)), conv_module_class(self.use_depthwise)
        self.cls_convs = nn.ModuleList(self._towers_of(module) for _ in levels)
        self.reg_convs = nn.ModuleList(self._towers_of(module) for _ in levels)
        self.rtm_cls = nn.ModuleList(self._predictor(self.cls_out_channels) for _ in levels)
        self.rtm_reg = nn.ModuleList(self._predictor(4) for _ in levels)
        if self.with_objectness:
            self.rtm_obj = nn.ModuleList(self._predictor(1) for _ in levels)
        if self.share_conv:
            share_towers(self.cls_convs, self.reg_convs)

    def forward(  # type: ignore[override]  # two outputs
        self, feats: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], list[Tensor]]:
        scores, boxes = [], []
        objects = self.rtm_obj if self.with_objectness else [None] * len(feats)
        levels = zip(feats, self.cls_convs, self.reg_convs, self.rtm_cls, self.rtm_reg, objects)
        for level, stride in zip(levels, self.prior_generator.strides):
            logits, distances = self._branches(*level)
            scores.append(logits)
            boxes.append((distances.exp() if self.exp_on_reg else distances) * stride[0])
        return scores, boxes


def through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """What layers make of ``x``, one after another."""
    for layer in layers:
        x = layer(x)
    return x


def share_towers(*branches: Any) -> None:
    """Let the towers of all levels of each branch use the convolutions of the first."""
    for towers in branches:
        for tower in towers[1:]:
            for layer, first in zip(tower, towers[0]):
                share_convolutions(layer, first)


def share_convolutions(layer: nn.Module, first: nn.Module) -> None:
    """Let ``layer`` use the convolutions of ``first``, and keep its own norms."""
    for name, module in first.named_modules():
        if isinstance(module, nn.Conv2d):
            layer.get_submodule(name.rpartition('.')[0]).register_module(name.rpartition('.')[2], module)
