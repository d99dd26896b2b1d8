"""The head of LW-DETR (arXiv:2406.03459).

Letters: L decoder layers, B images, R groups, Q queries of a group, C classes, D channels of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import bias_init_with_prob, constant_init
from torch import Tensor, nn

from mmdet.models.core import PaddedGT, QueryOutputs, unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.utils import InstanceList

from .deformable_detr_head import DeformableDETRHead


def boxes_from(references: Tensor, deltas: Tensor) -> Tensor:
    """``(..., 4)`` cx, cy, w, h: centres moved in parts of the references ``(..., 4)``, sizes by logarithms."""
    center = references[..., :2] + deltas[..., :2] * references[..., 2:]
    return torch.cat([center, references[..., 2:] * deltas[..., 2:].exp()], -1)


@MODELS.register_module()
class LWDETRHead(DeformableDETRHead):
    """One branch for classes and one for boxes for all layers, and one of each for each group of the encoder.

    Groups are matched apart, as if each were a decoder layer of its own; a loss is their mean.

    Args:
        num_groups: R.
    """

    def __init__(self, *args: Any, num_groups: int = 13, **kwargs: Any) -> None:
        self.num_groups = num_groups
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        self.cls_branches = self._class_branches(1)
        self.reg_branches = nn.ModuleList([self._box_branch(4)])
        self.enc_cls_branches = self._class_branches(self.num_groups)
        self.enc_reg_branches = nn.ModuleList([self._box_branch(4) for _ in range(self.num_groups)])

    def _class_branches(self, count: int) -> nn.ModuleList:
        return nn.ModuleList([nn.Linear(self.embed_dims, self.cls_out_channels) for _ in range(count)])

    def init_weights(self) -> None:
        super(DeformableDETRHead, self).init_weights()
        for branch in (*self.cls_branches, *self.enc_cls_branches):
            nn.init.constant_(branch.bias, bias_init_with_prob(0.01))
        for branch in (*self.reg_branches, *self.enc_reg_branches):
            constant_init(branch[-1], 0, bias=0)

    def deploy(self, layer: int) -> None:
        """Leave the branches of the first group, and look at the last layer alone."""
        super().deploy(layer)
        self.enc_cls_branches, self.enc_reg_branches = self.enc_cls_branches[:1], self.enc_reg_branches[:1]
        self.num_groups = 1

    def forward(self, hidden_states: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Logits ``(L, B, R * Q, C)`` and boxes ``(L, B, R * Q, 4)`` of ``(L, B, R * Q, D)``.

        Args:
            references: ``(B, R * Q, 4)``.
        """
        hidden_states = self._detecting_states(hidden_states)
        deltas = self.reg_branches[0](hidden_states)
        return self.cls_branches[0](hidden_states), boxes_from(references.expand_as(deltas), deltas)

    def loss(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Tensor,
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        batch_data_samples: Sequence,
    ) -> dict:
        """Losses of what decoder and encoder gave.

        Args:
            enc_outputs_class, enc_outputs_coord: ``(R, B, Q, C)`` logits and ``(R, B, Q, 4)`` boxes of the encoder.
        """
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        outs = self(hidden_states, references)
        return self.loss_by_feat(*(*outs, enc_outputs_class, enc_outputs_coord, gt_instances, metas))

    def loss_by_feat(  # type: ignore[override]
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        enc_cls_scores: Tensor,
        enc_bbox_preds: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: Any = None,
    ) -> dict:
        """Losses of the layers, and ``enc_`` those of the encoder."""
        gt, groups = PaddedGT.from_instances(batch_gt_instances), len(enc_cls_scores)
        apart = lambda x: x.unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)  # (L * R, B, Q, .)
        layers = QueryOutputs(apart(all_layers_cls_scores), apart(all_layers_bbox_preds), gt)
        encoder = QueryOutputs(enc_cls_scores, enc_bbox_preds, gt)
        named: dict[str, Tensor] = {}
        for kind, losses in zip(('', 'enc_'), self._losses([layers, encoder], batch_img_metas)):
            means = tuple(loss.unflatten(0, (-1, groups)).mean(1) for loss in losses)
            named.update(self._named(means, kind))
        return named
