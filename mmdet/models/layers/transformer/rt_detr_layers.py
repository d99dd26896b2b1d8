"""Decoder of RT-DETR (arXiv:2304.08069) and RT-DETRv2 (arXiv:2407.17140).

Letters: B images, F feature levels, S cells of all levels, Q queries, H heads, K points, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.mlp import MLP, each_through
from mmdet.ops.multi_scale_deform_attn import cast_once, init_sampling, sampled_sums

from .attention import MultiheadAttention
from .deformable_detr_layers import (
    DeformableDetrTransformerDecoder,
    DeformableDetrTransformerDecoderLayer,
    moved_references,
)
from .dino_layers import DinoTransformerDecoder

METHODS = ('default', 'discrete')


class SampledAttention(BaseModule):
    """Attention of each query to points within its box, of which levels may have different numbers.

    With ``num_points`` alike on all levels, the default method and projections it computes what
    :class:`MultiScaleDeformableAttention` does, with the same names of weights.

    Args:
        num_points: K, of all levels or of each.
        method: 'default' for bilinear samples, 'discrete' for the nearest cells (RT-DETRv2, Sec. 3).
        offset_scale: How far points may lie from the centre for an offset of 1, in parts of the box.
        with_projection: Whether values and outputs are projected; D-FINE leaves both out.
        add_identity: Whether the query is added to the output.
    """

    level_of_point: Tensor
    reach_of_point: Tensor

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 3,
        num_points: int | Sequence[int] = 4,
        method: str = 'default',
        offset_scale: float = 0.5,
        with_projection: bool = True,
        add_identity: bool = True,
        batch_first: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        points = [num_points] * num_levels if isinstance(num_points, int) else list(num_points)
        if len(points) != num_levels:
            raise UserValueError(f'num_points={num_points} must have one number for each of {num_levels} levels')
        if embed_dims % num_heads:
            raise UserValueError(f'embed_dims={embed_dims} is not divisible by num_heads={num_heads}')
        if method not in METHODS:
            raise UserValueError(f'method must be one of {", ".join(METHODS)}, got {method!r}')
        self.batch_first = batch_first
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.points = points
        self.method = method
        self.offset_scale = offset_scale
        self.sampling_offsets = nn.Linear(embed_dims, num_heads * sum(points) * 2)
        self.attention_weights = nn.Linear(embed_dims, num_heads * sum(points))
        self.add_identity = add_identity
        levels = [level for level, count in enumerate(points) for _ in range(count)]
        reach = [[offset_scale / points[level]] for level in levels]  # of an offset of 1, in parts of the box
        self.register_buffer('level_of_point', torch.tensor(levels), persistent=False)
        self.register_buffer('reach_of_point', torch.tensor(reach), persistent=False)
        self.value_proj = nn.Linear(embed_dims, embed_dims) if with_projection else None
        self.output_proj = nn.Linear(embed_dims, embed_dims) if with_projection else None
        self.init_weights()

    def init_weights(self) -> None:
        """See :func:`mmdet.ops.multi_scale_deform_attn.init_sampling`."""
        init_sampling(self, self.num_heads, self.points)
        if self.method == 'discrete':
            self.sampling_offsets.requires_grad_(False)  # nearest cells have no gradient of their places

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | Sequence[tuple[int, int]] | None = None,
        projected: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """``(B, Q, C)`` of the same.

        Args:
            value: ``(B, S, C)``; what the projection gives of it if ``projected``.
            key_padding_mask: ``(B, S)`` True at cells of padding.
            reference_points: ``(B, Q, F or 1, 4)`` boxes cx, cy, w, h in parts of the image.
            spatial_shapes: ``(F, 2)`` height and width of each level, on the host.
        """
        if reference_points is None or spatial_shapes is None or reference_points.shape[-1] != 4:
            raise UserValueError('SampledAttention needs reference_points with 4 coordinates and spatial_shapes')
        identity = query
        query = cast_once(query if query_pos is None else query + query_pos)
        value = value if self.value_proj is None or projected else self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0)
        offsets, weights = self._numbers(query)
        weights = weights.unflatten(-1, (self.num_heads, -1)).softmax(-1)
        offsets = offsets.unflatten(-1, (self.num_heads, -1, 2))
        locations = self._locations(reference_points[:, :, None], offsets)
        value = value.unflatten(-1, (self.num_heads, -1))
        out = sampled_sums(value, spatial_shapes, locations, weights, self.points, nearest=self.method == 'discrete')
        out = out if self.output_proj is None else self.output_proj(out)
        return out + identity if self.add_identity else out

    def _numbers(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets ``(B, Q, H * P * 2)`` and logits of weights ``(B, Q, H * P)``, in one product unless someone watches
        the layers."""
        layers = self.sampling_offsets, self.attention_weights
        if any(type(layer) is not nn.Linear or layer._forward_hooks or layer._forward_pre_hooks for layer in layers):
            return layers[0](query), layers[1](query)
        weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ('weight', 'bias'))
        return F.linear(query, weight, bias).split([layer.out_features for layer in layers], -1)

    def _locations(self, boxes: Tensor, offsets: Tensor) -> Tensor:
        """``(B, Q, H, P, 2)`` of the same, and boxes ``(B, Q, 1, F or 1, 4)``."""
        if boxes.shape[3] > 1:
            boxes = boxes.index_select(3, self.level_of_point)
        return torch.addcmul(boxes[..., :2], offsets, boxes[..., 2:] * self.reach_of_point)


class RTDETRTransformerDecoderLayer(DeformableDetrTransformerDecoderLayer):
    """Deformable DETR's, with :class:`SampledAttention`."""

    def _init_layers(self) -> None:
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)
        self.cross_attn = SampledAttention(**self.cross_attn_cfg)
        self._init_rest(3)


class RTDETRTransformerDecoder(DinoTransformerDecoder):
    """Positions of queries are made of their boxes without waves; outputs are not normed.

    Args:
        eval_idx: The layer that detects, by index; those after it serve in training alone.
    """

    layer_class = RTDETRTransformerDecoderLayer

    def __init__(self, *args: Any, eval_idx: int = -1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if eval_idx not in range(-self.num_layers, self.num_layers):
            raise UserValueError(f'eval_idx must be one of {self.num_layers} layers, got {eval_idx}')
        self.eval_idx = eval_idx % self.num_layers

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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs ``(L, B, Q, C)``, the references ``(L + 1, B, Q, 4)`` before and after each layer, and the logits
        ``(L, B, Q, 4)`` by which each moved its own; arguments as of :class:`DinoTransformerDecoder`."""
        queries, references, deltas = [], [reference_points], []
        layers = self._active_layers()
        values, projected = self._values(layers, value)
        for index, layer in enumerate(layers):
            places = self._places(reference_points, key_padding_mask, valid_ratios)
            query = layer(
                query,
                value=values[index],
                projected=projected,
                query_pos=self._query_pos(places[:, :, 0], query),
                self_attn_mask=self_attn_mask,
                key_padding_mask=key_padding_mask,
                reference_points=places,
                spatial_shapes=spatial_shapes,
            )
            delta = reg_branches[index](query)
            moved = moved_references(delta, reference_points)
            reference_points = moved.detach()
            for outputs, one in zip((queries, references, deltas), (query, moved, delta)):
                outputs.append(one)
        return torch.stack(queries), torch.stack(references), torch.stack(deltas)

    @staticmethod
    def _places(boxes: Tensor, key_padding_mask: Tensor | None, valid_ratios: Tensor) -> Tensor:
        """``(B, Q, F, 4)`` boxes ``(B, Q, 4)`` in parts of each padded level, or ``(B, Q, 1, 4)`` if nothing is
        padded."""
        boxes = boxes[:, :, None]
        return boxes if key_padding_mask is None else boxes * torch.cat([valid_ratios, valid_ratios], -1)[:, None]

    @staticmethod
    def _values(layers: Sequence[nn.Module], value: Tensor) -> tuple[Sequence[Tensor], bool]:
        """Values of each of L layers, ``(B, S, C)``, projected in one product where all of them do that; and whether
        they are."""
        projections = [getattr(getattr(layer, 'cross_attn', None), 'value_proj', None) for layer in layers]
        if not all(isinstance(projection, nn.Linear) for projection in projections):
            return [value] * len(layers), False
        return each_through(projections, value.expand(len(layers), *value.shape)).unbind(), True

    def deploy(self) -> None:
        """Drop the layers after the one that detects."""
        self.layers = self.layers[: self.eval_idx + 1]

    def _active_layers(self) -> Sequence[nn.Module]:
        return self.layers if self.training else self.layers[: self.eval_idx + 1]

    def _init_layers(self) -> None:
        DeformableDetrTransformerDecoder._init_layers(self)
        self.ref_point_head = MLP(4, self.embed_dims * 2, self.embed_dims, 2)
        self.norm = nn.Identity()

    def _query_pos(self, places: Tensor, query: Tensor) -> Tensor:
        return self.ref_point_head(places.to(query.dtype))
