"""Decoder of DDQ-DETR (arXiv:2303.12776), whose queries are kept distinct.

Letters: L layers, B images, H heads of the attention, D denoising queries, Q distinct ones, A dense ones behind them, T
all of these, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.models.core import best_distinct
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.utils import ConfigType

from .dino_layers import DinoTransformerDecoder


@dataclass
class DistinctQueries:
    """What detector, decoder and head know of the queries that they work on.

    Attributes:
        dqs_cfg: The suppression that makes them distinct.
        first: D, the place of the first.
        count: Q.
        num_dense: A, 0 unless training.
        branches: The branches of the head that score outputs of each layer, and those that move dense queries.
        usable: ``[(B, Q)]`` bool, which are matched, trained and returned after each layer but the last: those that
            the first one sees. These are all where the first one is itself left, as in MMDetection.
    """

    dqs_cfg: ConfigType
    first: int = 0
    count: int = 0
    num_dense: int = 0
    branches: Sequence[nn.ModuleList] = ()
    usable: list[Tensor] = field(default_factory=list)

    @property
    def part(self) -> slice:
        """The places of the distinct queries."""
        return slice(self.first, self.first + self.count)


class DDQTransformerDecoder(DinoTransformerDecoder):
    """DINO's, which after each layer finds the queries that say the same as a better one.

    Distinct queries do not see those that were found, and these see nothing else. Dense queries have branches of their
    own. :attr:`distinct` is set by the detector.
    """

    def _init_layers(self) -> None:
        super()._init_layers()
        self.distinct = DistinctQueries(dict(type='nms', iou_threshold=0.8))

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
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """As DINO's."""
        self.distinct.usable = []
        batch, total = query.shape[:2]
        if self_attn_mask is None:
            self_attn_mask = torch.zeros(total, total, dtype=torch.bool, device=query.device)
        places = key_padding_mask, self_attn_mask.expand(batch * self.layers[0].self_attn.num_heads, -1, -1)
        where = spatial_shapes, level_start_index, valid_ratios
        return super().forward(query, value, *places, reference_points, *where, reg_branches, **kwargs)

    def _deltas(self, index: int, query: Tensor, reg_branches: nn.ModuleList) -> Tensor:
        return by_branches(query, self.distinct, reg_branches[index], self.distinct.branches[1][index])

    def _next_mask(self, references: Tensor, query: Tensor, mask: Tensor | None, index: int) -> Tensor | None:
        assert mask is not None
        return self.select_distinct_queries(references, query, mask, index)

    @torch.no_grad()
    def select_distinct_queries(
        self, reference_points: Tensor, query: Tensor, self_attn_mask: Tensor, layer_index: int
    ) -> Tensor:
        """The mask of the next layer, ``(B * H, T, T)`` True where a query must not see another.

        Args:
            reference_points: ``(B, T, 4)`` cx, cy, w, h, after the layer.
            query: ``(B, T, C)`` outputs of the layer.
        """
        distinct = self.distinct
        boxes = bbox_cxcywh_to_xyxy(reference_points[:, distinct.part])
        scores = distinct.branches[0][layer_index](query[:, distinct.part]).sigmoid().amax(-1)
        before = distinct.usable[-1] if distinct.usable else None
        index, exists = best_distinct(boxes, scores, distinct.dqs_cfg, valid=before)
        kept = torch.zeros_like(scores, dtype=torch.int).scatter_reduce(1, index, exists.int(), 'amax').bool()
        distinct.usable.append(kept | kept[:, :1])
        mask = self_attn_mask.unflatten(0, (kept.shape[0], -1)).clone()
        mask[:, :, distinct.part, distinct.part] = ~(kept[:, :, None] | kept[:, None])[:, None]
        return mask.flatten(0, 1)


def by_branches(outputs: Tensor, distinct: DistinctQueries, branch: nn.Module, dense_branch: nn.Module) -> Tensor:
    """What one branch gives for ``outputs (B, T, C)``, and the other for the dense ones among them."""
    last = distinct.num_dense
    if not last:
        return branch(outputs)
    return torch.cat([branch(outputs[:, :-last]), dense_branch(outputs[:, -last:])], 1)
