"""Localisation distillation (arXiv:2102.12252). Letters: B images, P anchors of all levels, C classes, n = reg_max."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmdet.models.core import DenseTargets, by_batch, flatten_outputs, mean_count, unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean

from . import joints
from .gfl_head import GFLHead


@MODELS.register_module()
class LDHead(GFLHead):
    """GFL whose distributions learn from those of a teacher, at the positives.

    Args:
        loss_ld: Loss of the distributions beside the teacher's (Eq. 3).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss_ld=dict(type='LocalizationDistillationLoss', loss_weight=0.25, T=10),
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.loss_ld = MODELS.build(loss_ld)

    def loss(self, x: tuple[Tensor, ...], out_teacher: tuple, batch_data_samples) -> dict:  # type: ignore[override]  # as in 3.x
        """Losses of feature maps; ``out_teacher`` are the outputs of the teacher's head."""
        gt_instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        outputs: list[Any] = [*self(x), gt_instances, metas, out_teacher[1], ignored]
        return self.loss_by_feat(*outputs)

    def loss_by_feat(  # type: ignore[override]  # the arguments of 3.x
        self,
        cls_scores,
        bbox_preds,
        batch_gt_instances,
        batch_img_metas,
        soft_targets,
        batch_gt_instances_ignore=None,
    ) -> dict:
        """As GFL's, and ``loss_ld``; ``soft_targets`` are the teacher's ``bbox_preds``."""
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        outputs = (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim), (soft_targets, self.reg_dim)
        loss_cls, loss_bbox, loss_dfl, loss_ld, weights = self._each_loss(
            outputs, anchors, targets, reduce_mean(targets.avg_factor)
        )
        total = mean_count(torch.stack(weights).sum() + 1e-6, 1e-6)
        return dict(
            loss_cls=loss_cls,
            loss_bbox=[loss / total for loss in loss_bbox],
            loss_dfl=[loss / total for loss in loss_dfl],
            loss_ld=loss_ld,
        )

    def _losses(  # type: ignore[override]  # the teacher's distributions, and one loss more
        self,
        logits: Tensor,
        corners: Tensor,
        soft_targets: Tensor,
        anchors: Tensor,
        targets: DenseTargets,
        avg_factor: Tensor,
        stride: Any = None,
    ) -> tuple[Tensor, ...]:
        loss_cls, loss_bbox, loss_dfl, total = super()._losses(logits, corners, anchors, targets, avg_factor, stride)
        weight = (logits.detach().sigmoid().amax(-1) * targets.pos)[..., None].expand(-1, -1, 4)
        rows = (value.reshape(-1, self.reg_max + 1) for value in (corners, soft_targets))
        return loss_cls, loss_bbox, loss_dfl, self.loss_ld(*rows, weight=weight.flatten(), avg_factor=4.0), total

    @by_batch
    def loss_by_feat_single(  # type: ignore[override]  # the arguments of 3.x
        self, anchors, cls_score, bbox_pred, labels, label_weights, bbox_targets, stride, soft_targets, avg_factor
    ) -> tuple[Tensor, ...]:
        """The losses of one level, whose stride is (x, y), and the sum of the weights.

        Args:
            soft_targets: ``(B, 4 * (n + 1), H, W)`` of the teacher.
        """
        targets = joints.level_targets(self.num_classes, labels, label_weights, bbox_targets)
        outputs = flatten_outputs(
            ([cls_score], self.cls_out_channels), ([bbox_pred], self.reg_dim), ([soft_targets], self.reg_dim)
        )
        values: list[Any] = [*outputs, anchors, targets, avg_factor, stride[0]]
        return self._losses(*values)
