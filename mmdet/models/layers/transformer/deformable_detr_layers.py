"""Encoder and decoder of Deformable DETR (arXiv:2010.04159, Fig. 2).

Letters: L layers, B images, F feature levels, S cells of all levels, Q queries, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.ops import MultiScaleDeformableAttention

from .attention import MultiheadAttention
from .detr_layers import (
    DetrTransformerDecoder,
    DetrTransformerDecoderLayer,
    DetrTransformerEncoder,
    DetrTransformerEncoderLayer,
)
from .utils import inverse_sigmoid


class DeformableDetrTransformerEncoderLayer(DetrTransformerEncoderLayer):
    """DETR's, with attention to a few points of each level."""

    def _init_layers(self) -> None:
        self.self_attn = MultiScaleDeformableAttention(**self.self_attn_cfg)
        self._init_rest(2)


class DeformableDetrTransformerEncoder(DetrTransformerEncoder):
    """Every cell attends to points around its own place on all levels."""

    layer_class = DeformableDetrTransformerEncoderLayer

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        query_pos: Tensor,
        key_padding_mask: Tensor | None,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
        **kwargs: Any,
    ) -> Tensor:
        """``(B, S, C)`` of the same.

        Args:
            spatial_shapes: ``(F, 2)`` height and width of each level, on the host.
            level_start_index: ``(F,)`` the first cell of each.
            valid_ratios: ``(B, F, 2)`` the part of width and height that is not padding.
        """
        places = self.get_encoder_reference_points(spatial_shapes, valid_ratios, device=query.device)
        return super().forward(
            query,
            query_pos,
            key_padding_mask,
            spatial_shapes=spatial_shapes,
            level_start_index=level_start_index,
            valid_ratios=valid_ratios,
            reference_points=places,
            **kwargs,
        )

    @staticmethod
    def get_encoder_reference_points(
        spatial_shapes: Tensor | Sequence[tuple[int, int]], valid_ratios: Tensor, device: torch.device | str
    ) -> Tensor:
        """``(B, S, F, 2)`` x and y of every cell on every level, in parts of the padded map."""
        shapes = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
        levels = []
        for level, (height, width) in enumerate(shapes):
            y = torch.arange(height, dtype=torch.float32, device=device) + 0.5
            x = torch.arange(width, dtype=torch.float32, device=device) + 0.5
            grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1).flatten(0, 1)
            sizes = torch.stack([valid_ratios[:, level, 0] * width, valid_ratios[:, level, 1] * height], -1)
            levels.append(grid / sizes[:, None])
        return torch.cat(levels, 1)[:, :, None] * valid_ratios[:, None]


class DeformableDetrTransformerDecoderLayer(DetrTransformerDecoderLayer):
    """DETR's, whose cross attention goes to a few points of each level."""

    def _init_layers(self) -> None:
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)
        self.cross_attn = MultiScaleDeformableAttention(**self.cross_attn_cfg)
        self._init_rest(3)


class DeformableDetrTransformerDecoder(DetrTransformerDecoder):
    """Every query attends to points around its reference, which layers may move (Sec. 4, box refinement)."""

    layer_class = DeformableDetrTransformerDecoderLayer

    def _init_layers(self) -> None:
        if self.post_norm_cfg is not None:
            raise UserValueError(f'post_norm_cfg of {type(self).__name__} must be None, got {self.post_norm_cfg!r}')
        self.layers = ModuleList([self.layer_class(**self.layer_cfg) for _ in range(self.num_layers)])
        self.embed_dims = self.layers[0].embed_dims

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        query_pos: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
        reg_branches: nn.ModuleList | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Outputs ``(L, B, Q, C)``, and the references ``(L, B, Q, 2 or 4)`` after each layer.

        Args:
            reference_points: ``(B, Q, 2)`` points, or ``(B, Q, 4)`` boxes cx, cy, w, h, in parts of the image.
            reg_branches: Give the logits by which an output moves its reference; None to keep the references.
        """
        queries, references = [], []
        for index, layer in enumerate(self.layers):
            ratios = valid_ratios.repeat(1, 1, reference_points.shape[-1] // 2)
            query = layer(
                query,
                query_pos=query_pos,
                value=value,
                key_padding_mask=key_padding_mask,
                spatial_shapes=spatial_shapes,
                level_start_index=level_start_index,
                valid_ratios=valid_ratios,
                reference_points=reference_points[:, :, None] * ratios[:, None],
                **kwargs,
            )
            if reg_branches is not None:
                reference_points = moved_references(reg_branches[index](query), reference_points).detach()
            queries.append(query)
            references.append(reference_points)
        if self.return_intermediate:
            return torch.stack(queries), torch.stack(references)
        return query[None], reference_points[None]


def moved_references(deltas: Tensor, references: Tensor) -> Tensor:
    """Boxes ``(..., 4)`` by logits relative to points ``(..., 2)`` or boxes ``(..., 4)``, all in parts of the image."""
    start = inverse_sigmoid(references)
    return (deltas + nn.functional.pad(start, (0, 4 - start.shape[-1]))).sigmoid()
