"""Decoder of D-FINE (arXiv:2410.13842).

Letters: L layers, B images, Q queries, R bins of a side, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.core import moved_sides, sides_of_distributions
from mmdet.models.layers.building import build_norm_layer
from mmdet.models.layers.mlp import FFN, MLP

from .attention import MultiheadAttention
from .deformable_detr_layers import moved_references
from .rt_detr_layers import RTDETRTransformerDecoder, RTDETRTransformerDecoderLayer, SampledAttention


def within_half(x: Tensor) -> Tensor:
    """The same, where half precision was computed with clamped to what it holds."""
    device = x.device.type
    halved = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    largest = torch.finfo(torch.float16).max
    return x.clamp(-largest, largest) if halved or x.dtype == torch.float16 else x


class GatedSum(BaseModule):
    """A residual whose two parts are weighted by gates that both decide (Appendix A, "target gating layer")."""

    def __init__(self, embed_dims: int, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * embed_dims, 2 * embed_dims)
        self.norm = norm or nn.LayerNorm(embed_dims)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """``(B, Q, C)`` of two of the same."""
        one, other = self.gate(torch.cat([first, second], -1)).sigmoid().chunk(2, -1)
        return self.norm(one * first + other * second)


class LocationQuality(BaseModule):
    """How much the sharpness of the distributions of a box adds to its scores.

    Args:
        topk: So many of the largest probabilities of each side are seen.
    """

    def __init__(self, topk: int = 4, hidden_dims: int = 64, num_layers: int = 2) -> None:
        super().__init__()
        self.topk = topk
        self.reg_conf = MLP(4 * (topk + 1), hidden_dims, 1, num_layers)
        nn.init.zeros_(self.reg_conf.layers[-1].weight)
        nn.init.zeros_(self.reg_conf.layers[-1].bias)

    def forward(self, corners: Tensor) -> Tensor:
        """``(..., 1)`` of ``(..., 4 * (R + 1))`` logits."""
        return self.reg_conf(self.sharpness(corners))

    def sharpness(self, corners: Tensor) -> Tensor:
        """``(..., 4 * (topk + 1))`` the largest probabilities of each side, and their mean."""
        best = corners.unflatten(-1, (4, -1)).softmax(-1).topk(self.topk, -1).values
        return torch.cat([best, best.mean(-1, keepdim=True)], -1).flatten(-2)


class DFINETransformerDecoderLayer(RTDETRTransformerDecoderLayer):
    """RT-DETR's, with a gated sum after the cross attention, which has no projections."""

    def _init_layers(self) -> None:
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)
        self.cross_attn = SampledAttention(**{**self.cross_attn_cfg, 'with_projection': False, 'add_identity': False})
        self.embed_dims = self.self_attn.embed_dims
        self.gateway = GatedSum(self.embed_dims)
        self.ffn = FFN(**self.ffn_cfg)
        self.norms = nn.ModuleList([build_norm_layer(self.norm_cfg, self.embed_dims)[1] for _ in range(2)])

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        value: Tensor,
        query_pos: Tensor,
        self_attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        query = self.self_attn(query, query_pos=query_pos, attn_mask=self_attn_mask)
        query = self.norms[0](query)
        seen = self.cross_attn(query, value, query_pos=query_pos, key_padding_mask=key_padding_mask, **kwargs)
        return self.norms[1](within_half(self.ffn(self.gateway(query, seen))))


class DFINETransformerDecoder(RTDETRTransformerDecoder):
    """Every layer adds to the logits of how the sides of boxes lie, which the first layer gave (Sec. 4.1)."""

    layer_class = DFINETransformerDecoderLayer

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        self_attn_mask: Tensor | None,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
        reg_branches: nn.ModuleList,
        first_branch: nn.Module,
        places: Tensor,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Outputs ``(L, B, Q, C)``, boxes ``(L, B, Q, 4)`` after each layer, logits of their sides ``(L, B, Q, 4 * (R +
        1))``, and the boxes ``(B, Q, 4)`` that the sides are measured from.

        Args:
            reg_branches: Give the logits of the sides that a layer adds.
            first_branch: Gives the logits by which the first output moves its reference.
            places: ``(R + 1,)`` of the bins.
            scale: As in :func:`moved_sides`.
        """
        outputs, boxes, corners = [], [], []
        previous: Any = 0
        total: Any = 0
        start = None
        for index, layer in enumerate(self._active_layers()):
            where = self._places(reference_points, key_padding_mask, valid_ratios)
            query = layer(
                query,
                value,
                self._query_pos(where[:, :, 0], query).clamp(-10, 10),
                self_attn_mask=self_attn_mask,
                key_padding_mask=key_padding_mask,
                reference_points=where,
                spatial_shapes=spatial_shapes,
            )
            if start is None:
                start = moved_references(first_branch(query), reference_points)
            total = total + reg_branches[index](query + previous)
            box = moved_sides(start.detach(), sides_of_distributions(total, places), scale)
            previous, reference_points = query.detach(), box.detach()
            outputs.append(query)
            boxes.append(box)
            corners.append(total)
        return torch.stack(outputs), torch.stack(boxes), torch.stack(corners), start
