"""The head of Deformable DETR (arXiv:2010.04159).

Letters: L decoder layers, B images, Q queries, S cells of the encoder, C classes, D channels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import bias_init_with_prob, constant_init
from torch import Tensor, nn

from mmdet.models.core import PaddedGT, QueryOutputs, unpack_gt_instances
from mmdet.models.layers.mlp import each_through
from mmdet.models.layers.transformer.deformable_detr_layers import moved_references
from mmdet.registry import MODELS
from mmdet.utils import InstanceList, OptInstanceList

from .detr_head import DETRHead


@MODELS.register_module()
class DeformableDETRHead(DETRHead):
    """A branch for classes and one for boxes for each decoder layer; boxes are relative to references.

    Args:
        share_pred_layer: Whether all layers have the same branches.
        num_pred_layer: How many branches; the last one is the encoder's if ``as_two_stage``.
        as_two_stage: Whether the encoder predicts boxes, too, with the one class of an object.
    """

    encoder_of_one_class = True
    """Whether the encoder tells objects from background, and not their classes."""

    def __init__(
        self,
        *args: Any,
        share_pred_layer: bool = False,
        num_pred_layer: int = 6,
        as_two_stage: bool = False,
        **kwargs: Any,
    ) -> None:
        self.share_pred_layer = share_pred_layer
        self.num_pred_layer = num_pred_layer
        self.as_two_stage = as_two_stage
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        self.cls_branches = self._branches(nn.Linear(self.embed_dims, self.cls_out_channels))
        self.reg_branches = self._branches(self._box_branch(4))

    def _box_branch(self, out_channels: int) -> nn.Sequential:
        dims = self.embed_dims
        hidden = [layer for _ in range(self.num_reg_fcs) for layer in (nn.Linear(dims, dims), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(dims, out_channels))

    def _branches(self, branch: nn.Module) -> Any:
        again = (lambda module: module) if self.share_pred_layer else copy.deepcopy
        return nn.ModuleList([again(branch) for _ in range(self.num_pred_layer)])

    def init_weights(self) -> None:
        super().init_weights()
        if self.loss_cls.use_sigmoid:
            for branch in self.cls_branches:
                if branch.bias is not None:
                    nn.init.constant_(branch.bias, bias_init_with_prob(0.01))
        for branch in self.reg_branches:
            constant_init(branch[-1], 0, bias=0)
        # Boxes begin small around points; where the encoder proposes boxes, they begin as those.
        nn.init.constant_(self.reg_branches[0][-1].bias.data[2:], -2.0)
        if self.as_two_stage:
            for branch in self.reg_branches:
                nn.init.constant_(branch[-1].bias.data[2:], 0.0)

    detecting: int | None = None  # the layer that is left in a head for deployment

    def deploy(self, layer: int) -> None:
        """Look at the outputs of one layer alone, and drop the branches of classes of those before it."""
        self.detecting = layer
        branches = list(self.cls_branches)
        unused = range(min(layer, len(branches) - 1))
        self.cls_branches = nn.ModuleList([nn.Identity() if i in unused else b for i, b in enumerate(branches)])

    def _detecting_states(self, hidden_states: Tensor) -> Tensor:
        """``(L, B, Q, D)``, or ``(1, B, Q, D)`` of the only layer that detects."""
        return hidden_states if self.detecting is None else hidden_states[-1:]

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, references: Sequence[Tensor], deltas: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits ``(L, B, Q, cls_out_channels)`` and boxes ``(L, B, Q, 4)`` of ``(L, B, Q, D)``.

        Args:
            references: Of each layer, points ``(B, Q, 2)`` or boxes ``(B, Q, 4)``; those after the last are not used.
            deltas: ``(L, B, Q, 4)`` what the branches of boxes give, where the decoder knows it already.
        """
        first, states = self.detecting or 0, self._detecting_states(hidden_states)
        scores = each_through(list(self.cls_branches)[first:], states)
        deltas = each_through(list(self.reg_branches)[first:], states) if deltas is None else deltas[-len(states) :]
        starts = references[first : first + len(states)]
        if len({start.shape[-1] for start in starts}) > 1:
            return scores, torch.stack([moved_references(*pair) for pair in zip(deltas, starts)])
        return scores, moved_references(deltas, torch.stack(list(starts)))

    def loss(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        enc_outputs_class: Tensor | None,
        enc_outputs_coord: Tensor | None,
        batch_data_samples: Sequence,
    ) -> dict:
        """Losses of what decoder and encoder gave.

        Args:
            enc_outputs_class, enc_outputs_coord: ``(B, S, C)`` logits and ``(B, S, 4)`` boxes of the encoder, or None.
        """
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        outs = self(hidden_states, references)
        return self.loss_by_feat(*(*outs, enc_outputs_class, enc_outputs_coord, gt_instances, metas))

    def loss_by_feat(  # type: ignore[override]
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        enc_cls_scores: Tensor | None,
        enc_bbox_preds: Tensor | None,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """As DETR's, and ``enc_`` losses of the encoder, for which all objects are of the first class."""
        gt = PaddedGT.from_instances(batch_gt_instances)
        groups = [self._decoder_outputs(all_layers_cls_scores, all_layers_bbox_preds, gt)]
        if enc_cls_scores is not None and enc_bbox_preds is not None:
            truth = gt.of_one_class() if self.encoder_of_one_class else gt
            groups.append(QueryOutputs(enc_cls_scores[None], enc_bbox_preds[None], truth))
        losses = self._losses(groups, batch_img_metas)
        named = self._named(losses[0])
        for encoder in losses[1:]:
            named.update(self._named(encoder, 'enc_'))
        return named

    def _decoder_outputs(self, scores: Tensor, boxes: Tensor, gt: PaddedGT) -> QueryOutputs:
        return QueryOutputs(scores, boxes, gt)

    def loss_and_predict(  # type: ignore[override]
        self, hidden_states: Tensor, references: Sequence[Tensor], batch_data_samples: Sequence, **encoder: Any
    ) -> tuple[dict, InstanceList]:
        """Losses, and detections of the same outputs; ``encoder`` as for :meth:`loss`."""
        given = {'enc_outputs_class': None, 'enc_outputs_coord': None, **encoder}
        losses = self.loss(hidden_states, references, batch_data_samples=batch_data_samples, **given)
        return losses, self.predict(hidden_states, references, batch_data_samples, rescale=False)

    def predict(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        batch_data_samples: Sequence,
        rescale: bool = True,
    ) -> InstanceList:
        """Detections of each image by the last layer."""
        return self._predict_of(self(hidden_states, references), batch_data_samples, rescale)

    def predict_by_feat(  # type: ignore[override]
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        batch_img_metas: list[dict],
        rescale: bool = False,
    ) -> InstanceList:
        return super().predict_by_feat(all_layers_cls_scores, all_layers_bbox_preds, batch_img_metas, rescale)
