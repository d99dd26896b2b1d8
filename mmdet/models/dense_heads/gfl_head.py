"""Generalized focal loss (arXiv:2006.04388). Letters: B images, P anchors of all levels, C classes, n ``reg_max``."""

from __future__ import annotations

import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import DenseTargets, by_batch, flatten_outputs, mean_count, multi_apply, per_level
from mmdet.registry import MODELS
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps
from mmdet.utils import reduce_mean

from . import joints
from .anchor_head import AnchorHead, AnchorsInTargets


class Integral(nn.Module):
    """Expected value of distributions over ``0 ... reg_max`` (Eq. 5)."""

    def __init__(self, reg_max: int = 16) -> None:
        super().__init__()
        self.reg_max = reg_max
        self.register_buffer('project', torch.linspace(0, reg_max, reg_max + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(..., 4 * (reg_max + 1))`` to distances ``(..., 4)``."""
        return x.unflatten(-1, (-1, self.reg_max + 1)).softmax(-1) @ self.project.to(x)


@MODELS.register_module()
class GFLHead(AnchorsInTargets, AnchorHead):
    """Classes scored by the quality of the box, and each side of the box as a distribution.

    Boxes are the targets; the losses encode them.

    Args:
        reg_max: Largest distance of a side from the anchor's centre, in strides.
    """

    encodes_targets = False

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg=None,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        reg_max: int = 16,
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='gfl_cls', std=0.01, bias_prob=0.01),
        ),
        **kwargs,
    ) -> None:
        self.stacked_convs, self.conv_cfg, self.norm_cfg, self.reg_max = stacked_convs, conv_cfg, norm_cfg, reg_max
        super().__init__(num_classes, in_channels, bbox_coder=bbox_coder, init_cfg=init_cfg, **kwargs)
        self.reg_dim = 4 * (reg_max + 1)
        self.integral = Integral(reg_max)
        self.loss_dfl = MODELS.build(loss_dfl)

    def _init_layers(self) -> None:
        if self.num_base_priors != 1:
            raise UserValueError(f'{type(self).__name__} needs one anchor at a location, not {self.num_base_priors}')
        self.relu = nn.ReLU(inplace=True)
        self.cls_convs, self.reg_convs = self._towers()
        self.gfl_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)
        self.gfl_reg = nn.Conv2d(self.feat_channels, 4 * (self.reg_max + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        return multi_apply(self.forward_single, x, self.scales)

    # Each level has a scale of its own, as in 3.x.
    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Class logits ``(B, C, H, W)`` and logits of the distributions ``(B, 4 * (n + 1), H, W)``."""
        return self.gfl_cls(self.cls_convs(x)), scale(self.gfl_reg(self.reg_convs(x))).float()

    def anchor_center(self, anchors: Tensor) -> Tensor:
        """Centres ``(..., 2)`` of xyxy anchors ``(..., 4)``."""
        return (anchors[..., :2] + anchors[..., 2:]) / 2

    def loss_by_feat(
        self, cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> dict:
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        outputs = (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim)
        loss_cls, loss_bbox, loss_dfl, weights = self._each_loss(
            outputs, anchors, targets, reduce_mean(targets.avg_factor)
        )
        total = mean_count(sum(weights))
        return dict(
            loss_cls=loss_cls,
            loss_bbox=[loss / total for loss in loss_bbox],
            loss_dfl=[loss / total for loss in loss_dfl],
        )

    def _losses(
        self, logits: Tensor, corners: Tensor, anchors: Tensor, targets: DenseTargets, avg_factor: Tensor, stride=None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quality focal loss, GIoU and distribution focal loss, the last two weighted by the best class score.

        Args:
            corners: ``(B, P, 4 * (n + 1))`` logits of the distributions.
            stride: Of the one level; None for those of all levels.

        Returns:
            The losses of classes, boxes and distributions, and the sum of the weights.
        """
        t = targets
        if stride is None:
            strides = [stride[0] for stride in self.prior_generator.strides]
            stride = per_level(strides, t.level_sizes, anchors)[:, None]  # (P, 1)
        centers = self.anchor_center(anchors) / stride
        pred = self.bbox_coder.decode(centers, self.integral(corners))
        # Finite, and no loss, off the positives.
        boxes = torch.where(t.pos[..., None], t.bbox_targets / stride, pred.detach())
        weight = logits.detach().sigmoid().amax(-1) * t.pos
        quality = bbox_overlaps(pred.detach().flatten(0, 1), boxes.flatten(0, 1), is_aligned=True) * t.pos.flatten()
        distances = self.bbox_coder.encode(centers, boxes, self.reg_max)
        return (
            self.loss_cls(
                logits.flatten(0, 1),
                (t.labels.flatten(), quality),
                weight=t.label_weights.flatten(),
                avg_factor=avg_factor,
            ),
            self.loss_bbox(pred.flatten(0, 1), boxes.flatten(0, 1), weight=weight.flatten(), avg_factor=1.0),
            self.loss_dfl(
                corners.reshape(-1, self.reg_max + 1),
                distances.flatten(),
                weight=weight[..., None].expand(-1, -1, 4).flatten(),
                avg_factor=4.0,
            ),
            weight.sum(),
        )

    @by_batch
    def loss_by_feat_single(
        self, anchors, cls_score, bbox_pred, labels, label_weights, bbox_targets, stride, avg_factor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The losses of one level, whose stride is (x, y), and the sum of the weights.

        Args:
            anchors: ``(B, P, 4)``; ``cls_score (B, C, H, W)`` and so on.
        """
        targets = joints.level_targets(self.num_classes, labels, label_weights, bbox_targets)
        logits, corners = flatten_outputs(([cls_score], self.cls_out_channels), ([bbox_pred], self.reg_dim))
        return self._losses(logits, corners, anchors, targets, avg_factor, stride[0])

    def _decode_boxes(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> Tensor:
        distances = self.integral(preds) * self._candidate_strides(sizes, preds)
        return self.bbox_coder.decode(self.anchor_center(priors), distances, max_shape=shapes)
