"""Dense heads that learn most from prime samples (PISA, arXiv:1904.04821). Letters: B images, G objects, P anchors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmdet.models.core import DenseTargets, flatten_outputs
from mmdet.models.losses import carl_loss, isr_p
from mmdet.registry import MODELS
from mmdet.utils import InstanceList, OptInstanceList

from .retina_head import RetinaHead
from .ssd_head import SSDHead


class PrimeSamples:
    """Mixin: positives weighted by the rank of their overlap (ISR), and a box loss that trains the scores too (CARL).

    ``train_cfg.isr`` and ``train_cfg.carl`` are the arguments of :func:`isr_p` and :func:`carl_loss`; a part that has
    none is left out.
    """

    def loss_by_feat(
        self: Any,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls``, ``loss_bbox`` and ``loss_carl``."""
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        outputs = (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim)
        logits, deltas = (value.flatten(0, 1) for value in flatten_outputs(*outputs))
        if self.train_cfg.get('isr') is not None:
            num_gt = max(1, *map(len, batch_gt_instances))
            targets.label_weights = self._weights_by_rank(logits, deltas, anchors, targets, num_gt)
        loss_cls, loss_bbox = self._each_loss(outputs, anchors, targets, targets.avg_factor)
        losses = dict(loss_cls=loss_cls, loss_bbox=loss_bbox)
        if self.train_cfg.get('carl') is not None:
            losses.update(
                carl_loss(
                    logits,
                    targets.labels.flatten(),
                    deltas,
                    targets.bbox_targets.flatten(0, 1),
                    self.loss_bbox,
                    **self.train_cfg['carl'],
                    avg_factor=targets.avg_factor,
                    sigmoid=self.use_sigmoid_cls,
                    num_class=self.num_classes,
                )
            )
        return losses

    def _weights_by_rank(
        self: Any, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: DenseTargets, num_gt: int
    ) -> Tensor:
        """``(B, P)`` label weights."""
        gt_inds = targets.gt_inds
        if gt_inds is not None:  # different between images
            gt_inds = gt_inds + num_gt * torch.arange(len(gt_inds), device=gt_inds.device)[:, None]
        fields = targets.labels, targets.label_weights, targets.bbox_targets, targets.bbox_weights
        weighted = isr_p(
            logits.detach(),
            deltas.detach(),
            [field.flatten(0, 1) for field in fields],
            anchors.flatten(0, 1),
            targets.extras.get('sampling_results', ()),
            loss_cls=self.loss_cls,
            bbox_coder=self.bbox_coder,
            **self.train_cfg['isr'],
            num_class=self.num_classes,
            gt_inds=None if gt_inds is None else gt_inds.flatten(),
        )
        return weighted[1].view_as(targets.label_weights)


@MODELS.register_module()
class PISARetinaHead(PrimeSamples, RetinaHead):  # type: ignore[misc]  # a third loss
    """RetinaNet's head with prime samples."""


@MODELS.register_module()
class PISASSDHead(PrimeSamples, SSDHead):  # type: ignore[misc]  # a third loss
    """SSD's head with prime samples."""
