"""The head of DDQ-DETR (arXiv:2303.12776).

Letters: L decoder layers, B images, D denoising queries, Q distinct ones, A dense ones, T all of these, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import bias_init_with_prob, constant_init
from torch import Tensor, nn

from mmdet.models.core import PaddedGT, QueryOutputs, by_batch
from mmdet.models.layers.transformer.ddq_detr_layers import DistinctQueries, by_branches
from mmdet.models.layers.transformer.deformable_detr_layers import moved_references
from mmdet.models.losses import DDQAuxLoss
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.utils import InstanceList, OptInstanceList

from .detr_head import Losses, image_sizes
from .dino_head import DINOHead


@MODELS.register_module()
class DDQDETRHead(DINOHead):
    """DINO's, which trains and returns distinct queries alone, and has branches of their own for dense ones.

    The last two pairs of ``cls_branches`` and ``reg_branches`` are of the encoder, for distinct and for dense queries.
    :attr:`distinct` is set by the detector.

    Args:
        aux_num_pos: Dense queries for each object.
    """

    def __init__(self, *args: Any, aux_num_pos: int = 4, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.distinct = DistinctQueries(dict(type='nms', iou_threshold=0.8))
        assigner = dict(type='TopkHungarianAssigner', topk=aux_num_pos)
        self.aux_loss_for_dense = DDQAuxLoss(train_cfg=dict(assigner=assigner, alpha=1, beta=6))

    def _init_layers(self) -> None:
        super()._init_layers()
        for name in ('cls_branches', 'reg_branches'):
            branches = getattr(self, name)
            dense = nn.ModuleList([copy.deepcopy(branch) for branch in branches[: self.num_pred_layer - 1]])
            setattr(self, f'aux_{name}', dense)
            branches.append(copy.deepcopy(branches[-1]))

    def init_weights(self) -> None:
        super().init_weights()
        for branch in self.aux_cls_branches:
            nn.init.constant_(branch.bias, bias_init_with_prob(0.01))
        for branch in self.aux_reg_branches:
            constant_init(branch[-1], 0, bias=0)

    def deploy(self, layer: int) -> None:
        """Leave all branches: by them the decoder tells after each layer which queries are distinct."""

    def forward(self, hidden_states: Tensor, references: Sequence[Tensor]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Logits ``(L, B, T, C)`` and boxes ``(L, B, T, 4)`` of ``(L, B, T, .)``, as Deformable DETR's."""
        scores, boxes = [], []
        for index, (state, start) in enumerate(zip(hidden_states, references)):
            branches = (self.cls_branches[index], self.aux_cls_branches[index])
            scores.append(by_branches(state, self.distinct, *branches))
            branches = (self.reg_branches[index], self.aux_reg_branches[index])
            boxes.append(moved_references(by_branches(state, self.distinct, *branches), start))
        return torch.stack(scores), torch.stack(boxes)

    def loss(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        batch_data_samples: Sequence,
        dn_meta: dict,
        aux_enc_outputs_class: Tensor | None = None,
        aux_enc_outputs_coord: Tensor | None = None,
    ) -> dict:
        """As DINO's, and ``aux_`` losses of dense queries.

        Args:
            dn_meta: Has ``num_dense_queries``, A, the last of the queries, besides what DINO's has.
            aux_enc_outputs_class, aux_enc_outputs_coord: ``(B, A, C)`` logits and ``(B, A, 4)`` boxes of the encoder.
        """
        if aux_enc_outputs_class is not None:  # with the layers, so that all are matched together
            dn_meta = dict(dn_meta, aux_enc_outputs=(aux_enc_outputs_class, aux_enc_outputs_coord))
        encoder = enc_outputs_class, enc_outputs_coord
        return super().loss(hidden_states, references, *encoder, batch_data_samples, dn_meta)

    def loss_by_feat(  # type: ignore[override]
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        enc_cls_scores: Tensor | None,
        enc_bbox_preds: Tensor | None,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        dn_meta: dict,
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """As DINO's of the distinct queries, and ``0_aux_aux_`` losses and so on of the dense ones of each layer."""
        count = dn_meta['num_dense_queries']
        outputs = all_layers_cls_scores, all_layers_bbox_preds
        scores, boxes = (value[:, :, :-count] for value in outputs)
        dense = [value[:, :, -count:] for value in outputs]
        truth = batch_gt_instances, batch_img_metas
        named = super().loss_by_feat(scores, boxes, enc_cls_scores, enc_bbox_preds, *truth, dn_meta)
        if not hasattr(self.loss_for_distinct_queries, 'by_batch'):
            named.update(self.loss_for_distinct_queries(*self.split_outputs(scores, boxes, dn_meta)[:2], *truth))
        return {**named, **self._dense_losses(dense, dn_meta.get('aux_enc_outputs'), *truth)}

    def _dense_losses(
        self,
        layers: Sequence[Tensor],
        encoder: Sequence[Tensor] | None,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
    ) -> dict:
        gt = PaddedGT.from_instances(batch_gt_instances)
        sizes = image_sizes(batch_img_metas, gt.boxes)[:, None]
        groups = [layers] if encoder is None else [layers, [value[None] for value in encoder]]
        groups = [(s.float().sigmoid(), bbox_cxcywh_to_xyxy(b.float()) * sizes) for s, b in groups]
        losses = self.aux_loss_for_dense.of_layers(groups, gt, batch_img_metas)
        named = {str(index): layer for index, layer in enumerate(zip(*losses[0]))}
        if encoder is not None:
            named['aux_enc'] = losses[1][0][0], losses[1][1][0]
        kinds = 'aux_loss_cls', 'aux_loss_bbox'
        return {
            f'{name}_{kind}' if name == 'aux_enc' else f'{name}_aux_{kind}': [loss]
            for name, layer in named.items()
            for kind, loss in zip(kinds, layer)
        }

    # ------------------------------------------------------------------------------------ distinct queries

    def _decoder_outputs(self, scores: Tensor, boxes: Tensor, gt: PaddedGT) -> QueryOutputs:
        """With the queries that are distinct before each layer: no others are matched, or have a loss."""
        masks = self.distinct.usable
        usable = torch.stack([torch.ones_like(masks[0]), *masks]) if masks else None
        return QueryOutputs(scores, boxes, gt, usable)

    def _losses(self, groups: Sequence[QueryOutputs], metas: list[dict]) -> list[Losses]:
        methods = self.loss_by_feat_single, self._loss_for_distinct_queries_single
        if all(hasattr(method, 'by_batch') for method in methods):
            return self._batched_losses(groups, metas)
        return [self._losses_of_distinct(groups[0], metas), *super()._losses(groups[1:], metas)]

    def _losses_of_distinct(self, group: QueryOutputs, metas: list[dict]) -> Losses:
        if hasattr(self._loss_for_distinct_queries_single, 'by_batch'):
            return self._batched_losses([group], metas)[0]
        layers, truth = zip(group.scores, group.boxes, range(len(group.scores))), list(group.gt.instances)
        singles = [self._loss_for_distinct_queries_single(*layer, truth, metas) for layer in layers]
        return tuple(torch.stack(list(column)) for column in zip(*singles))

    @by_batch
    def loss_for_distinct_queries(
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """Losses of the distinct queries of the decoder, ``(L, B, Q, .)``."""
        gt = PaddedGT.from_instances(batch_gt_instances)
        group = self._decoder_outputs(all_layers_cls_scores, all_layers_bbox_preds, gt)
        return self._named(self._losses_of_distinct(group, batch_img_metas))

    @by_batch
    def _loss_for_distinct_queries_single(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        l_id: int,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
    ) -> Losses:
        """The losses of layer ``l_id``, ``(B, Q, .)``."""
        usable = self.distinct.usable[l_id - 1][None] if l_id > 0 else None
        group = QueryOutputs(cls_scores[None], bbox_preds[None], PaddedGT.from_instances(batch_gt_instances), usable)
        return tuple(loss[0] for loss in self._batched_losses([group], batch_img_metas)[0])

    def predict_by_feat(  # type: ignore[override]
        self,
        layer_cls_scores: Tensor,
        layer_bbox_preds: Tensor,
        batch_img_metas: list[dict],
        rescale: bool = True,
    ) -> InstanceList:
        """As Deformable DETR's, of the queries that are distinct before the last layer; others have a score of 0."""
        scores = layer_cls_scores[-1:]
        if self.distinct.usable:
            scores = scores.masked_fill(~self.distinct.usable[-1][..., None], -torch.inf)
        return super().predict_by_feat(scores, layer_bbox_preds[-1:], batch_img_metas, rescale)
