"""Label assignment distillation (arXiv:2108.10520). Letters: B images, P anchors of all levels, C classes."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.core import flatten_outputs, unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps

from .paa_head import PAAHead


@MODELS.register_module()
class LADHead(PAAHead):
    """PAA whose student is trained on the positives that the teacher's outputs choose (Sec. 3.2)."""

    @torch.no_grad()
    def get_label_assignment(
        self, cls_scores, bbox_preds, iou_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
    ) -> tuple:
        """What the outputs of this head, as a teacher, choose for a batch.

        Returns:
            Labels, their weights ``(B * P,)``, boxes and their weights ``(B * P, 4)``, and of the n positives the
            places ``(n,)``, the anchors ``(n, 4)``, and n as a tensor.
        """
        anchors, targets = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        logits, preds = flatten_outputs((cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim))
        *_, pos = self._positives(logits, preds, anchors, targets, max(1, *map(len, batch_gt_instances)))
        labels = torch.where(pos, targets.labels, self.num_classes)
        weights = targets.bbox_weights * pos[..., None]
        values = labels, targets.label_weights, targets.bbox_targets, weights
        where = pos.flatten().nonzero()[:, 0]
        return *(value.flatten(0, 1) for value in values), where, anchors.flatten(0, 1)[where], pos.sum()

    def loss(self, x: tuple[Tensor, ...], label_assignment_results: tuple, batch_data_samples) -> dict:  # type: ignore[override]  # as in 3.x
        """Losses of feature maps for what the teacher chose."""
        gt_instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        outputs: list = [*self(x), gt_instances, metas, ignored, label_assignment_results]
        return self.loss_by_feat(*outputs)

    def loss_by_feat(  # type: ignore[override]  # a third output, as in 3.x
        self,
        cls_scores,
        bbox_preds,
        iou_preds,
        batch_gt_instances,
        batch_img_metas,
        batch_gt_instances_ignore=None,
        label_assignment_results=None,
    ) -> dict:
        """``loss_cls``, ``loss_bbox`` and ``loss_iou``; what this head itself chooses where nobody tells."""
        if label_assignment_results is None:
            label_assignment_results = self.get_label_assignment(
                cls_scores, bbox_preds, iou_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
            )
        labels, label_weights, boxes, _, _, _, num_pos = label_assignment_results
        logits, preds, overlaps = flatten_outputs(
            (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim), (iou_preds, 1)
        )
        batch = logits.shape[:2]
        labels, label_weights, boxes = labels.view(batch), label_weights.view(batch), boxes.view(*batch, 4)
        priors = self._priors(cls_scores, batch_img_metas)
        anchors, sizes = priors.expanded(), priors.level_sizes
        pos = (labels >= 0) & (labels < self.num_classes)
        weight, count = pos.to(preds.dtype), torch.as_tensor(num_pos, dtype=preds.dtype, device=preds.device)
        pred = self.bbox_coder.decode(anchors, preds)
        boxes = torch.where(pos[..., None], boxes, pred.detach())  # finite, and no loss, off the positives
        quality = bbox_overlaps(pred.detach(), boxes, is_aligned=True) * weight
        least, some = count.clamp(min=len(batch_img_metas)), count.clamp(min=1)
        return dict(
            loss_cls=self._loss(self.loss_cls, sizes, logits, labels, label_weights, avg_factor=least),
            loss_bbox=self._loss(self.loss_bbox, sizes, pred, boxes, weight, avg_factor=some),
            loss_iou=self._loss(self.loss_centerness, sizes, overlaps[..., 0], quality, weight, avg_factor=some),
        )
