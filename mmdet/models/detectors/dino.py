"""DINO. Letters: B images, S cells of all levels, D denoising queries, Q others, C channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.transformer import CdnQueryGenerator, DinoTransformerDecoder
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList
from mmdet.utils import OptConfigType

from .deformable_detr import DeformableDETR


def rows_at(values: Tensor, index: Tensor) -> Tensor:
    """``(B, Q, C)`` rows of ``values (B, S, C)`` at ``index (B, Q)``."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


@MODELS.register_module()
class DINO(DeformableDETR):
    """`DINO: DETR with Improved DeNoising Anchor Boxes <https://arxiv.org/abs/2203.03605>`_

    References are the best boxes of the encoder, contents are learned (Sec. 3.4, mixed query selection).

    Args:
        dn_cfg: Arguments of :class:`CdnQueryGenerator` that do not follow from the model.
    """

    decoder_class = DinoTransformerDecoder

    def __init__(self, *args: Any, dn_cfg: OptConfigType = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not (self.as_two_stage and self.with_box_refine):
            raise UserValueError(f'{type(self).__name__} needs as_two_stage=True and with_box_refine=True')
        known = dict(
            num_classes=self.bbox_head.num_classes,
            embed_dims=self.embed_dims,
            num_matching_queries=self.num_queries,
        )
        if double := sorted(known.keys() & (dn_cfg or {}).keys()):
            raise UserValueError(f'dn_cfg must not set {", ".join(double)}, which the model knows')
        self.dn_query_generator = CdnQueryGenerator(**known, **(dn_cfg or {}))

    def deploy(self) -> None:
        """Without queries for denoising."""
        super().deploy()
        self.dn_query_generator = None

    def _init_layers(self) -> None:
        self._init_transformer()
        self._init_queries()
        self._init_memory_projection()

    def _init_queries(self) -> None:
        self.query_embedding = nn.Embedding(self.num_queries, self.embed_dims)

    def _init_query_weights(self) -> None:
        nn.init.xavier_uniform_(self.query_embedding.weight)

    def forward_transformer(self, img_feats: tuple[Tensor, ...], batch_data_samples: OptSampleList = None) -> dict:
        encoder_inputs, decoder_inputs = self.pre_transformer(img_feats, batch_data_samples)
        encoder_outputs = self.forward_encoder(**encoder_inputs)
        queries, head_inputs = self.pre_decoder(**encoder_outputs, batch_data_samples=batch_data_samples)
        decoder_inputs.update(queries)
        return {**head_inputs, **self.forward_decoder(**decoder_inputs)}

    def pre_decoder(  # type: ignore[override]
        self,
        memory: Tensor,
        memory_mask: Tensor | None,
        spatial_shapes: Tensor,
        batch_data_samples: OptSampleList = None,
    ) -> tuple[dict, dict]:
        """Queries ``(B, D + Q, C)``, their references and their mask; the head gets what the encoder predicts there.

        Without samples, as at inference, nothing is denoised.
        """
        features, proposals = self.gen_encoder_output_proposals(memory, memory_mask, spatial_shapes)
        best, scores, boxes = self._best_cells(features, proposals)
        head_inputs = dict(enc_outputs_class=scores, enc_outputs_coord=boxes.sigmoid())
        query = self._contents(features, best)
        queries, dn_meta = self._with_denoising(query, boxes.detach(), batch_data_samples)
        return dict(queries, memory=memory), dict(head_inputs, dn_meta=dn_meta) if self.training else {}

    def _best_cells(self, features: Tensor, proposals: Tensor, *text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The cells ``(B, Q)`` that queries begin at, and what the encoder predicts there: logits ``(B, Q, .)``, and of
        boxes ``(B, Q, 4)``."""
        head, last = self.bbox_head, self.decoder.num_layers
        scores = head.cls_branches[last](features, *text)
        best = scores.amax(-1).topk(min(self.num_queries, scores.shape[1]), dim=1).indices
        boxes = head.reg_branches[last](rows_at(features, best)) + rows_at(proposals, best)  # of no other cells
        return best, rows_at(scores, best), boxes

    def _contents(self, features: Tensor, best: Tensor) -> Tensor:
        """``(B, Q, C)`` of queries that begin at the cells ``best (B, Q)``, whose features are ``(B, S, C)``."""
        return self.query_embedding.weight[: best.shape[1]].expand(features.shape[0], -1, -1)

    def _with_denoising(self, query: Tensor, boxes: Tensor, samples: OptSampleList) -> tuple[dict, dict | None]:
        """Arguments of the decoder for queries and logits of their boxes, with noisy ground truths before them."""
        mask = dn_meta = None
        if self.training and samples is not None:
            content, place, mask, dn_meta = self.dn_query_generator(samples)
            query, boxes = torch.cat([content.to(query.dtype), query], 1), torch.cat([place, boxes], 1)
            mask = mask[: query.shape[1], : query.shape[1]]  # a small image has fewer cells than there are queries
        return dict(query=query, reference_points=boxes.sigmoid(), dn_mask=mask), dn_meta

    def forward_decoder(  # type: ignore[override]
        self,
        query: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
        dn_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> dict:
        """``hidden_states (L, B, D + Q, C)`` and ``references``, a list of those before and after each of L layers;
        and ``deltas``, where the decoder returns them."""
        states, references, *deltas = self.decoder(
            query=query,
            value=memory,
            key_padding_mask=memory_mask,
            self_attn_mask=dn_mask,
            reference_points=reference_points,
            spatial_shapes=spatial_shapes,
            level_start_index=level_start_index,
            valid_ratios=valid_ratios,
            reg_branches=self.bbox_head.reg_branches,
            **kwargs,
        )
        return dict(hidden_states=states, references=list(references), **dict(zip(('deltas',), deltas)))
