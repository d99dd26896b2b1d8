"""Attention over queries and cells. Letters: B images, Q queries, K keys, C channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import build_dropout
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.ops.multi_scale_deform_attn import cast_once


class MultiheadAttention(BaseModule):
    """``torch.nn.MultiheadAttention`` with positions, dropout and a residual, with the names and arguments of mmcv's.

    mmcv's own lies in a module that warns when it is imported without compiled ops.

    Args:
        attn_drop: Rate for the attention weights.
        proj_drop: Rate for the output.
        dropout_layer: Config of what the output passes before it is added.
        batch_first: Queries and keys are (B, Q, C), not (Q, B, C).
        dropout: Both rates, of ``attn_drop`` and ``dropout_layer``, in older configs.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        dropout_layer: dict | None = dict(type='Dropout', drop_prob=0.0),
        init_cfg: dict | list[dict] | None = None,
        batch_first: bool = False,
        dropout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        if dropout is not None:
            attn_drop = dropout
            dropout_layer = {**(dropout_layer or dict(type='Dropout')), 'drop_prob': dropout}
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.batch_first = batch_first
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, attn_drop, **kwargs)
        self.proj_drop = nn.Dropout(proj_drop)
        self.dropout_layer = build_dropout(dropout_layer) if dropout_layer else nn.Identity()

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend.

        Args:
            key: The query if not given.
            value: The key, without its position, if not given.
            identity: Added to the result; the query without its position if not given.
            key_pos: The position of the query if not given and the keys are as many.
            attn_mask: True where a query must not look, or numbers that are added, ``(Q, K)`` or ``(B * heads, Q, K)``.
            key_padding_mask: ``(B, K)`` True at keys that nothing looks at.
        """
        key = query if key is None else key
        value = key if value is None else value
        identity = query if identity is None else identity
        if key_pos is None and query_pos is not None and query_pos.shape == key.shape:
            key_pos = query_pos
        within = key is query and key_pos is query_pos
        query = query if query_pos is None else query + query_pos
        key = query if within else key if key_pos is None else key + key_pos
        if not self.batch_first:
            queries = query.transpose(0, 1)
            key, value = queries if key is query else key.transpose(0, 1), value.transpose(0, 1)
            query = queries
        out = self._attend(query, key, value, attn_mask, key_padding_mask)
        if not self.batch_first:
            out = out.transpose(0, 1)
        return identity + self.dropout_layer(self.proj_drop(out))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None
    ) -> Tensor:
        """``(B, Q, C)`` what ``self.attn`` computes, without copies of transposed tensors and with one product for
        queries and keys that are the same."""
        attn = self.attn
        if not self._in_one_product(query):
            looked_at = bool(attn._forward_hooks or attn._forward_pre_hooks)  # by who wants to see where queries look
            turned = (x.transpose(0, 1) for x in (query, key, value))
            out = attn(*turned, key_padding_mask, need_weights=looked_at, attn_mask=attn_mask)[0]
            return out.transpose(0, 1)
        sources = [(query, 2), (value, 1)] if query is key else [(query, 1), (key, 1), (value, 1)]
        sizes = [count * self.embed_dims for _, count in sources]
        weights = cast_once(attn.in_proj_weight).split(sizes)
        biases = [None] * len(sizes) if attn.in_proj_bias is None else cast_once(attn.in_proj_bias).split(sizes)
        parts = [
            part.transpose(1, 2)  # (B, heads, Q or K, C / heads)
            for (source, count), weight, bias in zip(sources, weights, biases)
            for part in F.linear(source, weight, bias).unflatten(-1, (count, self.num_heads, -1)).unbind(2)
        ]
        query, key, value = parts
        mask = self._mask(attn_mask, key_padding_mask, query)
        out = F.scaled_dot_product_attention(query, key, value, mask, attn.dropout if self.training else 0.0)
        return attn.out_proj(out.transpose(1, 2).flatten(2))

    def _in_one_product(self, query: Tensor) -> bool:
        """Whether nobody can tell: not on CPUs, as results that are frozen there hang on the rounding of torch."""
        attn = self.attn
        plain = type(attn) is nn.MultiheadAttention and not (attn._forward_hooks or attn._forward_pre_hooks)
        return query.is_cuda and plain and attn._qkv_same_embed_dim and attn.bias_k is None and not attn.add_zero_attn

    @staticmethod
    def _mask(attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor) -> Tensor | None:
        """True where a query looks, or numbers that are added; ``(Q, K)``, or ``(B, heads or 1, Q or 1, K)``."""
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.unflatten(0, query.shape[:2])
        masks = [mask for mask in (attn_mask, key_padding_mask) if mask is not None]
        if key_padding_mask is not None:
            masks[-1] = key_padding_mask[:, None, None]
        if any(mask.dtype != torch.bool for mask in masks):
            added = [
                mask if mask.dtype != torch.bool else query.new_zeros(mask.shape).masked_fill_(mask, -torch.inf)
                for mask in masks
            ]
            return sum(added[1:], added[0]).to(query.dtype)
        if not masks:
            return None
        return ~(masks[0] | masks[1]) if len(masks) > 1 else ~masks[0]


class ConditionalAttention(BaseModule):
    """Attention in which content and position are projected apart (Conditional DETR, arXiv:2108.06152, Sec. 3.3).

    Args:
        cross_attn: Whether keys are cells; the position of a query is then beside its content, not added to it.
        keep_query_pos: Add the position to the content in every layer, not in the first alone.
        batch_first: Accepted; queries and keys are (B, Q, C).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        cross_attn: bool = False,
        keep_query_pos: bool = False,
        batch_first: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.batch_first = batch_first
        self.cross_attn = cross_attn
        self.keep_query_pos = keep_query_pos
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(proj_drop)
        self._init_layers()

    def _init_layers(self) -> None:
        dims = self.embed_dims
        self.qcontent_proj = nn.Linear(dims, dims)
        self.qpos_proj: Any = nn.Linear(dims, dims)
        self.kcontent_proj = nn.Linear(dims, dims)
        self.kpos_proj = nn.Linear(dims, dims)
        self.v_proj = nn.Linear(dims, dims)
        if self.cross_attn:
            self.qpos_sine_proj = nn.Linear(dims, dims)
        self.out_proj = nn.Linear(dims, dims)
        nn.init.zeros_(self.out_proj.bias)

    def forward_attn(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attend with projected queries and keys, whose channels may be more than those of the values.

        Args:
            attn_mask, key_padding_mask: As in :class:`MultiheadAttention`.

        Returns:
            ``(B, Q, C)``, and None where MMDetection has the weights, which are never made.
        """
        query, key, value = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.unflatten(0, (-1, self.num_heads))
        seen = attn_mask
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            seen = ~attn_mask
        if key_padding_mask is not None:
            inside = ~key_padding_mask.bool()[:, None, None]
            if seen is None or seen.dtype == torch.bool:
                seen = inside if seen is None else seen & inside
            else:
                seen = torch.where(inside, seen, -torch.inf)
        drop = self.attn_drop.p if self.attn_drop.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, seen, drop)
        return self.out_proj(out.transpose(1, 2).flatten(2)), None

    def forward(
        self,
        query: Tensor,
        key: Tensor | None,
        query_pos: Tensor | None = None,
        ref_sine_embed: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_first: bool = False,
    ) -> Tensor:
        """Attend, and add the query.

        Args:
            query: ``(B, Q, C)``.
            key: ``(B, K, C)``; the query if this is no cross attention.
            ref_sine_embed: ``(B, Q, C)`` waves of the place that a query looks at.
            is_first: Whether this is the first layer, whose queries have no content of their own yet.
        """
        if not self.cross_attn:
            q, k, value = self.qcontent_proj(query), self.kcontent_proj(query), self.v_proj(query)
            if query_pos is not None:
                q, k = q + self.qpos_proj(query_pos), k + self.kpos_proj(query_pos)
            return query + self.proj_drop(self.forward_attn(q, k, value, attn_mask, key_padding_mask)[0])
        q, k, value = self.qcontent_proj(query), self.kcontent_proj(key), self.v_proj(key)
        key_place = self.kpos_proj(key_pos)
        if is_first or self.keep_query_pos:
            q, k = q + self.qpos_proj(query_pos), k + key_place
        q = self._side_by_side(q, self.qpos_sine_proj(ref_sine_embed))
        k = self._side_by_side(k, key_place)
        return query + self.proj_drop(self.forward_attn(q, k, value, attn_mask, key_padding_mask)[0])

    def _side_by_side(self, content: Tensor, place: Tensor) -> Tensor:
        """``(B, Q, 2 * C)``, content and place of each head one after the other."""
        apart = [x.unflatten(-1, (self.num_heads, -1)) for x in (content, place)]
        return torch.cat(apart, -1).flatten(2)
