"""Decoder of Conditional DETR (arXiv:2108.06152, Fig. 3). Letters: L layers, B images, Q queries, C channels."""

from __future__ import annotations

from typing import Any

from mmengine.model import ModuleList
from torch import Tensor

from mmdet.models.layers.mlp import MLP

from .attention import ConditionalAttention
from .detr_layers import DetrTransformerDecoder, DetrTransformerDecoderLayer
from .utils import coordinate_to_encoding


class ConditionalDetrTransformerDecoderLayer(DetrTransformerDecoderLayer):
    """DETR's, with attention that keeps content and place apart."""

    def _init_layers(self) -> None:
        self.self_attn = ConditionalAttention(**self.self_attn_cfg)
        self.cross_attn = ConditionalAttention(**self.cross_attn_cfg)
        self._init_rest(3)

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        self_attn_masks: Tensor | None = None,
        cross_attn_masks: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        ref_sine_embed: Tensor | None = None,
        is_first: bool = False,
    ) -> Tensor:
        """``(B, Q, C)`` of the same; arguments as of DETR's layer and of :class:`ConditionalAttention`."""
        query = self.self_attn(
            query=query, key=query, query_pos=query_pos, key_pos=query_pos, attn_mask=self_attn_masks
        )
        query = self.norms[0](query)
        query = self.cross_attn(
            query=query,
            key=key,
            query_pos=query_pos,
            key_pos=key_pos,
            attn_mask=cross_attn_masks,
            key_padding_mask=key_padding_mask,
            ref_sine_embed=ref_sine_embed,
            is_first=is_first,
        )
        query = self.norms[1](query)
        return self.norms[2](self.ffn(query))


class ConditionalDetrTransformerDecoder(DetrTransformerDecoder):
    """Every query looks at waves around its reference point, stretched by its content."""

    layer_class = ConditionalDetrTransformerDecoderLayer

    def _init_layers(self) -> None:
        super()._init_layers()
        dims = self.embed_dims
        self.query_scale: Any = MLP(dims, dims, dims, 2)
        self.ref_point_head = MLP(dims, dims, 2, 2)
        drop_query_positions(self.layers)

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``(L, B, Q, C)`` outputs and ``(B, Q, 2)`` reference points in parts of the image."""
        references = self.ref_point_head(query_pos).sigmoid()
        waves = coordinate_to_encoding(references, num_feats=self.embed_dims // 2).to(query.dtype)
        queries = []
        for index, layer in enumerate(self.layers):
            looked_at = waves if index == 0 else waves * self.query_scale(query)
            query = layer(
                query,
                key=key,
                query_pos=query_pos,
                key_pos=key_pos,
                key_padding_mask=key_padding_mask,
                ref_sine_embed=looked_at,
                is_first=index == 0,
            )
            queries.append(query)
        return self._outputs(queries), references


def drop_query_positions(layers: ModuleList) -> None:
    """Only the first layer adds the position of a query to its content."""
    for layer in layers[1:]:
        layer.cross_attn.qpos_proj = None
