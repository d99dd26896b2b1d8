"""The head of DINO (arXiv:2203.03605).

Letters: L decoder layers, B images, D denoising queries, Q others, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import (
    DenseTargets,
    PaddedGT,
    QueryOutputs,
    by_batch,
    float_outputs,
    known_matches,
    unpack_gt_instances,
)
from mmdet.registry import MODELS
from mmdet.utils import InstanceList, OptInstanceList

from . import query_joints
from .deformable_detr_head import DeformableDETRHead
from .detr_head import Losses, image_sizes


def _known(hidden_states: Tensor, references: Sequence[Tensor], deltas: Tensor | None) -> tuple:
    """Arguments of a head's forward, which one of 3.x takes without ``deltas``."""
    return (hidden_states, references) if deltas is None else (hidden_states, references, deltas)


@MODELS.register_module()
class DINOHead(DeformableDETRHead):
    """Deformable DETR's, with losses of denoising queries, and of the classes that the encoder sees."""

    encoder_of_one_class = False

    def loss(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        batch_data_samples: Sequence,
        dn_meta: dict | None,
        deltas: Tensor | None = None,
    ) -> dict:
        """Losses of what decoder and encoder gave.

        Args:
            enc_outputs_class, enc_outputs_coord: ``(B, Q, C)`` logits and ``(B, Q, 4)`` boxes of the encoder.
            dn_meta: ``num_denoising_queries``, D, the first of the queries, and ``num_denoising_groups``.
            deltas: As for :meth:`forward`.
        """
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        outs = self(*_known(hidden_states, references, deltas))
        return self.loss_by_feat(*(*outs, enc_outputs_class, enc_outputs_coord, gt_instances, metas, dn_meta))

    def loss_by_feat(  # type: ignore[override]
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        enc_cls_scores: Tensor | None,
        enc_bbox_preds: Tensor | None,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        dn_meta: dict | None,
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """As Deformable DETR's, and ``dn_`` losses of all layers."""
        scores, boxes, dn_scores, dn_boxes = self.split_outputs(all_layers_cls_scores, all_layers_bbox_preds, dn_meta)
        outputs = scores, boxes, enc_cls_scores, enc_bbox_preds
        named = super().loss_by_feat(*outputs, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        if dn_meta is not None:
            denoised = self.loss_dn(dn_scores, dn_boxes, batch_gt_instances, batch_img_metas, dn_meta)
            named.update(self._named(denoised, 'dn_'))
        return named

    def loss_and_predict(  # type: ignore[override]
        self, hidden_states: Tensor, references: Sequence[Tensor], batch_data_samples: Sequence, **encoder: Any
    ) -> tuple[dict, InstanceList]:
        """Losses, and detections of the same outputs without those of denoising; ``encoder`` as for :meth:`loss`."""
        losses = self.loss(hidden_states, references, batch_data_samples=batch_data_samples, **encoder)
        dn_meta = encoder['dn_meta'] or {}
        wanted = slice(dn_meta.get('num_denoising_queries', 0), -dn_meta.get('num_dense_queries', 0) or None)
        outs = self(*_known(hidden_states, references, encoder.get('deltas')))
        outs = tuple(value[:, :, wanted] for value in outs)
        return losses, self._predict_of(outs, batch_data_samples, rescale=False)

    def predict(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        batch_data_samples: Sequence,
        rescale: bool = True,
        deltas: Tensor | None = None,
    ) -> InstanceList:
        """Detections of each image by the last layer; ``deltas`` as for :meth:`forward`."""
        return self._predict_of(self(*_known(hidden_states, references, deltas)), batch_data_samples, rescale)

    @staticmethod
    def split_outputs(
        all_layers_cls_scores: Tensor, all_layers_bbox_preds: Tensor, dn_meta: dict | None
    ) -> tuple[Any, ...]:
        """Logits and boxes ``(L, B, Q, .)`` to be matched, and those of denoising ``(L, B, D, .)``, None without
        any."""
        if dn_meta is None:
            return all_layers_cls_scores, all_layers_bbox_preds, None, None
        count = dn_meta['num_denoising_queries']
        sizes = [count, all_layers_cls_scores.shape[2] - count]
        dn_scores, scores = all_layers_cls_scores.split(sizes, 2)
        dn_boxes, boxes = all_layers_bbox_preds.split(sizes, 2)
        return scores, boxes, dn_scores, dn_boxes

    def loss_dn(
        self,
        all_layers_denoising_cls_scores: Tensor,
        all_layers_denoising_bbox_preds: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        dn_meta: dict,
    ) -> Losses:
        """``(L,)`` classification, L1 and IoU losses of ``(L, B, D, .)``."""
        layers = all_layers_denoising_cls_scores, all_layers_denoising_bbox_preds
        if not hasattr(self._loss_dn_single, 'by_batch'):
            singles = [self._loss_dn_single(*one, batch_gt_instances, batch_img_metas, dn_meta) for one in zip(*layers)]
            return tuple(torch.stack(list(column)) for column in zip(*singles))
        return self._denoising_losses(*layers, batch_gt_instances, batch_img_metas, dn_meta)

    @by_batch
    def _loss_dn_single(
        self,
        dn_cls_scores: Tensor,
        dn_bbox_preds: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        dn_meta: dict,
    ) -> Losses:
        """The losses of one layer, ``(B, D, .)``."""
        one = dn_cls_scores[None], dn_bbox_preds[None]
        return tuple(loss[0] for loss in self._denoising_losses(*one, batch_gt_instances, batch_img_metas, dn_meta))

    def _denoising_losses(
        self, scores: Tensor, boxes: Tensor, gt_instances: InstanceList, metas: list[dict], dn_meta: dict
    ) -> Losses:
        if hasattr(self.get_dn_targets, 'by_batch'):
            targets = self._denoising_targets(gt_instances, metas, dn_meta)
        else:
            images = zip(*tuple(self.get_dn_targets(gt_instances, metas, dn_meta))[:4])
            targets = query_joints.targets_of_images(list(images), self.num_classes)
        (group,) = float_outputs([QueryOutputs(scores, boxes, PaddedGT.from_instances(gt_instances))])
        return self._losses_of(group, targets.repeated(len(scores)), metas)

    def _denoising_targets(self, gt_instances: InstanceList, metas: list[dict], dn_meta: dict) -> DenseTargets:
        """Targets ``(B, D, ...)``."""
        if not hasattr(self._get_dn_targets_single, 'by_batch'):
            images = [self._get_dn_targets_single(*image, dn_meta)[:4] for image in zip(gt_instances, metas)]
            return query_joints.targets_of_images(images, self.num_classes)
        return self._known_targets(gt_instances, metas, dn_meta)

    @torch.no_grad()
    def _known_targets(self, gt_instances: InstanceList, metas: list[dict], dn_meta: dict) -> DenseTargets:
        gt = PaddedGT.from_instances(gt_instances)
        found = known_matches(gt, dn_meta['num_denoising_queries'], dn_meta['num_denoising_groups'])
        return self._targets_of(found, gt, image_sizes(metas, gt.boxes))

    @by_batch
    def get_dn_targets(
        self, batch_gt_instances: InstanceList, batch_img_metas: list[dict], dn_meta: dict
    ) -> query_joints.QueryTargets:
        """Targets of one layer; they are the same for all."""
        return query_joints.QueryTargets.of(self._denoising_targets(batch_gt_instances, batch_img_metas, dn_meta))

    @by_batch
    def _get_dn_targets_single(self, gt_instances: InstanceData, img_meta: dict, dn_meta: dict) -> tuple[Tensor, ...]:
        """Labels, their weights, box targets, their weights, and indices of positives and negatives of one image."""
        return query_joints.image_targets(self._known_targets([gt_instances], [img_meta], dn_meta))
