"""The head of Grounding DINO (arXiv:2303.05499).

Letters: L decoder layers, B images, Q queries, T tokens that a text may have, D channels of a query.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserNotImplementedError, UserValueError
from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    QueryOutputs,
    by_batch,
    in_float32,
    layer_losses,
    unpack_gt_instances,
)
from mmdet.models.core.token_maps import TokenMap, class_scores, padded_to, token_targets
from mmdet.models.layers.transformer.deformable_detr_layers import moved_references
from mmdet.models.losses import QualityFocalLoss
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList

from .detr_head import by_layer
from .dino_head import DINOHead


class ContrastiveEmbed(nn.Module):
    """How well a query fits each token: the product of their features.

    Args:
        max_text_len: T; the logits of tokens that a text does not have are minus infinity.
        log_scale: 'auto' to divide by the root of the channels, a number for a factor that is learned, whose logarithm
            begins there, 'none' or None for neither.
        bias: Whether a number is learned that is added, so that few tokens fit at the start.
    """

    def __init__(self, max_text_len: int = 256, log_scale: str | float | None = None, bias: bool = False) -> None:
        super().__init__()
        self.max_text_len = max_text_len
        self.log_scale: Any = log_scale
        if isinstance(log_scale, float):
            self.log_scale = nn.Parameter(torch.tensor([log_scale]))
        elif log_scale not in ('auto', 'none', None):
            raise UserValueError(f"log_scale must be a float, 'auto', 'none' or None, got {log_scale!r}")
        self.bias = nn.Parameter(torch.tensor([-math.log(99.0)])) if bias else None

    def forward(self, visual_feat: Tensor, text_feat: Tensor, text_token_mask: Tensor) -> Tensor:
        """``(B, Q, T)`` logits of queries ``(B, Q, D)`` and tokens ``(B, t, D)``, of which ``(B, t)`` exist."""
        logits = visual_feat @ text_feat.transpose(-1, -2)
        if isinstance(self.log_scale, nn.Parameter):
            logits = logits * self.log_scale.exp()
        elif self.log_scale == 'auto':
            logits = logits / math.sqrt(visual_feat.shape[-1])
        if self.bias is not None:
            logits = logits + self.bias
        logits = logits.masked_fill(~text_token_mask[:, None], -torch.inf)
        return nn.functional.pad(logits, (0, self.max_text_len - logits.shape[-1]), value=-torch.inf)


@MODELS.register_module()
class GroundingDINOHead(DINOHead):
    """DINO's, which scores the tokens of a text in the place of classes.

    Ground truths have ``positive_maps (g, T)``, the tokens of the name of each, and ``text_token_mask (g, t)``, those
    that exist.

    Args:
        contrastive_cfg: Arguments of :class:`ContrastiveEmbed`.
    """

    def __init__(self, contrastive_cfg: ConfigType = dict(max_text_len=256), **kwargs: Any) -> None:
        self.contrastive_cfg = contrastive_cfg
        self.max_text_len = contrastive_cfg.get('max_text_len', 256)
        super().__init__(**kwargs)
        self.text_masks: Tensor | None = None

    def _init_layers(self) -> None:
        self.cls_branches = self._branches(ContrastiveEmbed(**self.contrastive_cfg))
        self.reg_branches = self._branches(self._box_branch(4))

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, references: Sequence[Tensor], memory_text: Tensor, text_token_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits ``(L, B, Q, T)`` and boxes ``(L, B, Q, 4)`` of ``(L, B, Q, D)``.

        Args:
            references: Of each layer, points ``(B, Q, 2)`` or boxes ``(B, Q, 4)``; those after the last are not used.
            memory_text, text_token_mask: Tokens ``(B, t, D)``, of which ``(B, t)`` exist.
        """
        text = memory_text, text_token_mask
        scores = torch.stack([branch(state, *text) for branch, state in zip(self.cls_branches, hidden_states)])
        layers = zip(self.reg_branches, hidden_states, references)
        return scores, torch.stack([moved_references(branch(state), start) for branch, state, start in layers])

    # --------------------------------------------------------------------------------------------- training

    def loss(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        memory_text: Tensor,
        text_token_mask: Tensor,
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        batch_data_samples: Sequence,
        dn_meta: dict | None,
    ) -> dict:
        """Losses as DINO's; tokens that do not exist have none."""
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        outs = self(hidden_states, references, memory_text, text_token_mask)
        self.text_masks = text_token_mask
        return self.loss_by_feat(*(*outs, enc_outputs_class, enc_outputs_coord, gt_instances, metas, dn_meta))

    def _targets_of(self, found: Assignment, gt: PaddedGT, sizes: Tensor) -> DenseTargets:
        targets = super()._targets_of(found, gt, sizes)
        targets.labels = token_targets(targets, gt)
        return targets

    def _class_losses(self, group: QueryOutputs, targets: DenseTargets) -> Tensor:
        if isinstance(self.loss_cls, QualityFocalLoss):
            raise UserNotImplementedError('GroundingDINOHead has no targets for QualityFocalLoss')
        assert self.text_masks is not None, 'loss() says which tokens exist'
        layers = len(group.scores)
        pos, weights = by_layer(targets.pos, layers), by_layer(targets.label_weights, layers)
        exists = padded_to(self.text_masks, self.max_text_len)[:, None]  # (B, 1, T)
        logits = torch.where(exists, group.scores, 0.0)  # finite, and no loss, at those that do not exist
        factor = self._class_factor(pos, weights)
        return layer_losses(
            self.loss_cls, logits, by_layer(targets.labels, layers), weights[..., None] * exists, factor
        )

    # -------------------------------------------------------------------------------------------- inference

    def loss_and_predict(  # type: ignore[override]
        self, hidden_states: Tensor, references: Sequence[Tensor], batch_data_samples: Sequence, **others: Any
    ) -> tuple[dict, InstanceList]:
        """Losses, and detections of the same outputs without those of denoising; ``others`` as for :meth:`loss`."""
        losses = self.loss(hidden_states, references, batch_data_samples=batch_data_samples, **others)
        first = (others['dn_meta'] or {}).get('num_denoising_queries', 0)
        text = others['memory_text'], others['text_token_mask']
        outs = tuple(value[:, :, first:] for value in self(hidden_states, references, *text))
        return losses, self._predict_of(outs, batch_data_samples, rescale=False)

    def predict(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        memory_text: Tensor,
        text_token_mask: Tensor,
        batch_data_samples: Sequence,
        rescale: bool = True,
    ) -> InstanceList:
        """Detections of each image by the last layer; a sample's ``token_positive_map`` has the tokens of labels."""
        outs = self(hidden_states, references, memory_text, text_token_mask)
        return self._predict_of(outs, batch_data_samples, rescale)

    def _predict_of(self, outs: Any, samples: Sequence, rescale: bool) -> InstanceList:
        metas = [sample.metainfo for sample in samples]
        maps = [sample.get('token_positive_map') for sample in samples]
        return in_float32(self.predict_by_feat)(
            *outs, batch_img_metas=metas, batch_token_positive_maps=maps, rescale=rescale
        )

    @torch.no_grad()
    def predict_by_feat(  # type: ignore[override]
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        batch_img_metas: list[dict],
        batch_token_positive_maps: Sequence[TokenMap | None] | None = None,
        rescale: bool = False,
    ) -> InstanceList:
        """Detections of the last of L layers, best first.

        Args:
            batch_token_positive_maps: Tokens of each label, which counts from 1; without, the whole text is one name.
        """
        scores, boxes = all_layers_cls_scores[-1], all_layers_bbox_preds[-1]
        maps = batch_token_positive_maps or [None] * len(scores)
        if not hasattr(self._predict_by_feat_single, 'by_batch'):
            images = zip(scores, boxes, maps, batch_img_metas)
            return [self._predict_by_feat_single(*image, rescale) for image in images]
        if all(own == maps[0] for own in maps):
            return self._named_detections(scores, boxes, maps[0], batch_img_metas, rescale)
        images = zip(scores[:, None], boxes[:, None], maps, batch_img_metas)
        return [self._named_detections(s, b, own, [meta], rescale)[0] for s, b, own, meta in images]

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        token_positive_maps: TokenMap | None,
        img_meta: dict,
        rescale: bool = True,
    ) -> InstanceData:
        """Detections of one image, ``(Q, .)``."""
        return self._named_detections(cls_score[None], bbox_pred[None], token_positive_maps, [img_meta], rescale)[0]

    def _named_detections(
        self, logits: Tensor, boxes: Tensor, tokens: TokenMap | None, metas: Sequence[dict], rescale: bool
    ) -> InstanceList:
        scores = logits.sigmoid()
        scores = scores.amax(-1, keepdim=True) if tokens is None else class_scores(scores, tokens)
        return self._best(scores, boxes, metas, rescale)
