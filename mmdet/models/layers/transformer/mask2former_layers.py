"""Encoder and decoder of Mask2Former (arXiv:2112.01527, Fig. 2).

Letters: B images, S cells of all levels, F levels, Q queries, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .deformable_detr_layers import DeformableDetrTransformerEncoder
from .detr_layers import DetrTransformerDecoder, DetrTransformerDecoderLayer


class Mask2FormerTransformerEncoder(DeformableDetrTransformerEncoder):
    """Deformable DETR's, told where its cells lie."""

    def forward(  # type: ignore[override]  # as in MMDetection
        self,
        query: Tensor,
        query_pos: Tensor,
        key_padding_mask: Tensor | None,
        spatial_shapes: Tensor | Sequence[tuple[int, int]],
        level_start_index: Tensor,
        valid_ratios: Tensor,
        reference_points: Tensor,
        **kwargs: Any,
    ) -> Tensor:
        """``(B, S, C)`` of the same.

        Args:
            reference_points: ``(B, S, F, 2)`` x and y of every cell on every level, in parts of the map.
        """
        where = dict(spatial_shapes=spatial_shapes, level_start_index=level_start_index, valid_ratios=valid_ratios)
        for index in range(self.num_layers):
            query = self._run_layer(
                index, query, query_pos, key_padding_mask, reference_points=reference_points, **where, **kwargs
            )
        return query


class Mask2FormerTransformerDecoderLayer(DetrTransformerDecoderLayer):
    """DETR's, with the attention to cells before that of the queries to each other."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        self_attn_mask: Tensor | None = None,
        cross_attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """As DETR's layer; ``cross_attn_mask`` may be ``(B * heads, Q, S)``."""
        cells = dict(key=key, value=value, key_pos=key_pos, key_padding_mask=key_padding_mask)
        query = self.cross_attn(query, query_pos=query_pos, attn_mask=cross_attn_mask, **cells, **kwargs)
        query = self.norms[0](query)
        query = self.self_attn(query, query_pos=query_pos, key_pos=query_pos, attn_mask=self_attn_mask, **kwargs)
        query = self.norms[1](query)
        return self.norms[2](self.ffn(query))


class Mask2FormerTransformerDecoder(DetrTransformerDecoder):
    """The layers, and the norm that a head applies after each; it is the head that runs them one by one."""

    layer_class = Mask2FormerTransformerDecoderLayer
