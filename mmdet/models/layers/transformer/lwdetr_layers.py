"""Decoder of LW-DETR (arXiv:2406.03459). Letters: L layers, B images, R groups, Q queries of a group, C channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmdet.ops import MultiScaleDeformableAttention

from .attention import MultiheadAttention
from .deformable_detr_layers import DeformableDetrTransformerDecoderLayer
from .dino_layers import DinoTransformerDecoder


class GroupedAttention(MultiheadAttention):
    """Attention within each of several groups of queries, of which only the first is there at inference.

    Args:
        num_groups: R (Group DETR, arXiv:2207.13085).
    """

    def __init__(self, *args: Any, num_groups: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.num_groups = num_groups

    def forward(self, query: Tensor, query_pos: Tensor | None = None, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """``(B, R * Q, C)`` of the same."""
        groups = self.num_groups if self.training else 1
        split = lambda x: x.unflatten(1, (groups, -1)).flatten(0, 1)
        out = super().forward(split(query), query_pos=None if query_pos is None else split(query_pos))
        return out.unflatten(0, (-1, groups)).flatten(1, 2)


class LWDETRTransformerDecoderLayer(DeformableDetrTransformerDecoderLayer):
    """Deformable DETR's, whose queries see those of their group alone."""

    def _init_layers(self) -> None:
        self.self_attn = GroupedAttention(**self.self_attn_cfg)
        self.cross_attn = MultiScaleDeformableAttention(**self.cross_attn_cfg)
        self._init_rest(3)


class LWDETRTransformerDecoder(DinoTransformerDecoder):
    """DINO's, whose references stay where they are."""

    layer_class = LWDETRTransformerDecoderLayer

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        reference_points: Tensor,
        valid_ratios: Tensor,
        **where: Any,
    ) -> Tensor:
        """Outputs ``(L, B, R * Q, C)``.

        Args:
            reference_points: ``(B, R * Q, 4)`` boxes cx, cy, w, h in parts of the image.
        """
        places = reference_points[:, :, None] * torch.cat([valid_ratios, valid_ratios], -1)[:, None]
        position = self._query_pos(places[:, :, 0], query)
        outputs = []
        for layer in self.layers:
            query = layer(
                query,
                query_pos=position,
                value=value,
                key_padding_mask=key_padding_mask,
                reference_points=places,
                **where,
            )
            outputs.append(self.norm(query))
        return torch.stack(outputs)
