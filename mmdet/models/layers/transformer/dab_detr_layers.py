"""Encoder and decoder of DAB-DETR (arXiv:2201.12329, Fig. 4 and 5).

Letters: L layers, B images, S cells, Q queries, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.mlp import MLP

from .conditional_detr_layers import ConditionalDetrTransformerDecoderLayer, drop_query_positions
from .detr_layers import DetrTransformerDecoder, DetrTransformerEncoder
from .utils import coordinate_to_encoding, inverse_sigmoid

SCALES = ('cond_elewise', 'cond_scalar', 'fix_elewise')


class DABDetrTransformerEncoder(DetrTransformerEncoder):
    """DETR's, with positions stretched by the content."""

    def _init_layers(self) -> None:
        super()._init_layers()
        self.query_scale = MLP(self.embed_dims, self.embed_dims, self.embed_dims, 2)

    def forward(self, query: Tensor, query_pos: Tensor, key_padding_mask: Tensor | None, **kwargs: Any) -> Tensor:
        for index in range(self.num_layers):
            place = query_pos * self.query_scale(query)
            query = self._run_layer(index, query, place, key_padding_mask, **kwargs)
        return query


class DABDetrTransformerDecoderLayer(ConditionalDetrTransformerDecoderLayer):
    """Conditional DETR's."""

    def _init_layers(self) -> None:
        super()._init_layers()
        self.keep_query_pos = self.cross_attn.keep_query_pos

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        query_pos: Tensor,
        key_pos: Tensor,
        ref_sine_embed: Tensor | None = None,
        self_attn_masks: Tensor | None = None,
        cross_attn_masks: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_first: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        return super().forward(
            query,
            key,
            query_pos,
            key_pos,
            self_attn_masks,
            cross_attn_masks,
            key_padding_mask,
            ref_sine_embed,
            is_first,
        )


class DABDetrTransformerDecoder(DetrTransformerDecoder):
    """Queries are anchor boxes, which every layer moves (Sec. 4.1).

    Args:
        query_dim: 4 for boxes, 2 for points.
        query_scale_type: What stretches the waves: 'cond_elewise' or 'cond_scalar', the content, or 'fix_elewise', a
            learned vector for each layer.
        with_modulated_hw_attn: Whether waves of y and x are stretched by the sides of the anchor (Eq. 6).
    """

    layer_class = DABDetrTransformerDecoderLayer

    def __init__(
        self,
        *args: Any,
        query_dim: int = 4,
        query_scale_type: str = 'cond_elewise',
        with_modulated_hw_attn: bool = True,
        **kwargs: Any,
    ) -> None:
        if query_dim not in (2, 4):
            raise UserValueError(f'query_dim must be 2 or 4, got {query_dim!r}')
        if query_scale_type not in SCALES:
            raise UserValueError(f'query_scale_type must be one of {", ".join(SCALES)}, got {query_scale_type!r}')
        if with_modulated_hw_attn and query_dim != 4:
            raise UserValueError(f'with_modulated_hw_attn needs query_dim=4, got {query_dim}')
        self.query_dim = query_dim
        self.query_scale_type = query_scale_type
        self.with_modulated_hw_attn = with_modulated_hw_attn
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        dims = self.embed_dims
        self.query_scale: Any
        if self.query_scale_type == 'fix_elewise':
            self.query_scale = nn.Embedding(self.num_layers, dims)
        else:
            self.query_scale = MLP(dims, dims, 1 if self.query_scale_type == 'cond_scalar' else dims, 2)
        self.ref_point_head = MLP(self.query_dim // 2 * dims, dims, dims, 2)
        if self.with_modulated_hw_attn:
            self.ref_anchor_head = MLP(dims, dims, 2, 2)
        self.keep_query_pos = self.layers[0].keep_query_pos
        if not self.keep_query_pos:
            drop_query_positions(self.layers)

    def _looked_at(self, index: int, query: Tensor, anchors: Tensor, waves: Tensor) -> Tensor:
        """``(B, Q, C)`` waves of the centres of the anchors, stretched."""
        waves = waves[..., : self.embed_dims]
        if self.query_scale_type == 'fix_elewise':
            waves = waves * self.query_scale.weight[index]
        elif index > 0:
            waves = waves * self.query_scale(query)
        if not self.with_modulated_hw_attn:
            return waves
        stretch = self.ref_anchor_head(query).sigmoid() / anchors[..., 2:]  # of width and height
        return (waves.unflatten(-1, (2, -1)) * stretch.flip(-1)[..., None]).flatten(-2)  # y, then x

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        query_pos: Tensor,
        key_pos: Tensor,
        reg_branches: nn.Module,
        key_padding_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Outputs ``(L, B, Q, C)``, and the anchors ``(L, B, Q, query_dim)`` that each layer starts from.

        Args:
            query_pos: ``(B, Q, query_dim)`` logits of the anchors.
            reg_branches: Gives the logits by which an output moves its anchor.
        """
        anchors = query_pos.sigmoid()
        starts, queries = [anchors], []
        for index, layer in enumerate(self.layers):
            waves = coordinate_to_encoding(anchors, num_feats=self.embed_dims // 2).to(query.dtype)
            query = layer(
                query,
                key,
                query_pos=self.ref_point_head(waves),
                key_pos=key_pos,
                ref_sine_embed=self._looked_at(index, query, anchors, waves),
                key_padding_mask=key_padding_mask,
                is_first=index == 0,
                **kwargs,
            )
            moved = (reg_branches(query)[..., : self.query_dim] + inverse_sigmoid(anchors, eps=1e-3)).sigmoid()
            starts.append(moved)
            anchors = moved.detach()
            queries.append(query)
        return self._outputs(queries), torch.stack(starts[:-1])
