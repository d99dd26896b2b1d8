"""Encoder and decoder of DETR (arXiv:2005.12872, Fig. 10). Letters: B images, S cells, Q queries, C channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmdet.errors import UserValueError
from mmdet.models.layers.building import build_norm_layer
from mmdet.models.layers.mlp import FFN
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .attention import MultiheadAttention


def batch_first(cfg: dict, name: str) -> dict:
    """A copy of the config of an attention, which takes (B, Q, C).

    Raises:
        ValueError: if it says otherwise.
    """
    if not cfg.get('batch_first', True):
        raise UserValueError(f'{name} must have batch_first=True')
    return {**cfg, 'batch_first': True}


RECOMPUTE_FROM = 2**27
"""So many hidden numbers of a feed-forward block a GPU computes again in the backward pass: they take four to eight
times as much memory as what the block is given, but little time."""


class DetrTransformerEncoderLayer(BaseModule):
    """Self attention, then a feed-forward block, each with a residual and a norm after it."""

    def __init__(
        self,
        self_attn_cfg: OptConfigType = dict(embed_dims=256, num_heads=8, dropout=0.0),
        ffn_cfg: OptConfigType = dict(
            embed_dims=256,
            feedforward_channels=1024,
            num_fcs=2,
            ffn_drop=0.0,
            act_cfg=dict(type='ReLU', inplace=True),
        ),
        norm_cfg: OptConfigType = dict(type='LN'),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.self_attn_cfg = batch_first(self_attn_cfg, 'self_attn_cfg')
        self.ffn_cfg = ffn_cfg
        self.norm_cfg = norm_cfg
        self._init_layers()

    def _init_layers(self) -> None:
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)
        self._init_rest(2)

    def _init_rest(self, num_norms: int) -> None:
        self.embed_dims = self.self_attn.embed_dims
        self.ffn = FFN(**self.ffn_cfg)
        self.norms = ModuleList([build_norm_layer(self.norm_cfg, self.embed_dims)[1] for _ in range(num_norms)])

    def forward(self, query: Tensor, query_pos: Tensor, key_padding_mask: Tensor | None, **kwargs: Any) -> Tensor:
        """``(B, S, C)`` of the same.

        Args:
            key_padding_mask: ``(B, S)`` True at cells of padding, or None where there is none.
            kwargs: For the attention.
        """
        query = self.self_attn(
            query=query,
            key=query,
            value=query,
            query_pos=query_pos,
            key_pos=query_pos,
            key_padding_mask=key_padding_mask,
            **kwargs,
        )
        query = self.norms[0](query)
        again = self.training and self._has_large_ffn(query)
        return self.norms[1](checkpoint(self.ffn, query, use_reentrant=False) if again else self.ffn(query))

    def _has_large_ffn(self, query: Tensor) -> bool:
        """Whether the hidden numbers of the feed-forward block would fill a GPU."""
        hidden = query.numel() // query.shape[-1] * self.ffn.feedforward_channels
        return query.is_cuda and hidden >= RECOMPUTE_FROM and not torch.compiler.is_compiling()


class DetrTransformerEncoder(BaseModule):
    """A stack of encoder layers.

    Args:
        num_layers: How many.
        layer_cfg: Arguments of each.
        num_cp: The first so many layers compute their activations again in the backward pass.
    """

    layer_class: Callable[..., BaseModule] = DetrTransformerEncoderLayer

    def __init__(
        self, num_layers: int, layer_cfg: ConfigType, num_cp: int = -1, init_cfg: OptMultiConfig = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_cp > num_layers:
            raise UserValueError(f'num_cp={num_cp} is more than num_layers={num_layers}')
        self.num_layers = num_layers
        self.layer_cfg = layer_cfg
        self.num_cp = num_cp
        self._init_layers()

    def _init_layers(self) -> None:
        self.layers = ModuleList([self.layer_class(**self.layer_cfg) for _ in range(self.num_layers)])
        self.embed_dims = self.layers[0].embed_dims

    def _run_layer(self, index: int, query: Tensor, query_pos: Tensor, mask: Tensor | None, **kwargs: Any) -> Tensor:
        layer = self.layers[index]
        if index < self.num_cp and torch.is_grad_enabled():
            return checkpoint(layer, query, query_pos, mask, use_reentrant=False, **kwargs)
        return layer(query, query_pos, mask, **kwargs)

    def forward(self, query: Tensor, query_pos: Tensor, key_padding_mask: Tensor | None, **kwargs: Any) -> Tensor:
        """As a layer's."""
        for index in range(self.num_layers):
            query = self._run_layer(index, query, query_pos, key_padding_mask, **kwargs)
        return query


class DetrTransformerDecoderLayer(DetrTransformerEncoderLayer):
    """Self attention of the queries, cross attention to the cells, then a feed-forward block."""

    def __init__(
        self,
        self_attn_cfg: OptConfigType = dict(embed_dims=256, num_heads=8, dropout=0.0, batch_first=True),
        cross_attn_cfg: OptConfigType = dict(embed_dims=256, num_heads=8, dropout=0.0, batch_first=True),
        ffn_cfg: OptConfigType = dict(
            embed_dims=256,
            feedforward_channels=1024,
            num_fcs=2,
            ffn_drop=0.0,
            act_cfg=dict(type='ReLU', inplace=True),
        ),
        norm_cfg: OptConfigType = dict(type='LN'),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        self.cross_attn_cfg = batch_first(cross_attn_cfg, 'cross_attn_cfg')  # what super() calls builds of it
        super().__init__(self_attn_cfg, ffn_cfg, norm_cfg, init_cfg)

    def _init_layers(self) -> None:
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)
        self.cross_attn = MultiheadAttention(**self.cross_attn_cfg)
        self._init_rest(3)

    def forward(  # type: ignore[override]  # as in MMDetection
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
        """``(B, Q, C)`` of the same.

        Args:
            key, value: ``(B, S, C)``.
            self_attn_mask: ``(Q, Q)`` True where a query must not see another.
            cross_attn_mask: ``(Q, S)`` alike.
            key_padding_mask: ``(B, S)`` True at cells of padding.
            kwargs: For the cross attention.
        """
        query = self.self_attn(
            query=query, key=query, value=query, query_pos=query_pos, key_pos=query_pos, attn_mask=self_attn_mask
        )
        query = self.norms[0](query)
        query = self.cross_attn(
            query=query,
            key=key,
            value=value,
            query_pos=query_pos,
            key_pos=key_pos,
            attn_mask=cross_attn_mask,
            key_padding_mask=key_padding_mask,
            **kwargs,
        )
        query = self.norms[1](query)
        return self.norms[2](self.ffn(query))


class DetrTransformerDecoder(BaseModule):
    """A stack of decoder layers.

    Args:
        num_layers: How many.
        layer_cfg: Arguments of each.
        post_norm_cfg: Config of the norm that the outputs pass.
        return_intermediate: Whether the outputs of all layers are wanted, not those of the last alone.
    """

    layer_class: Callable[..., BaseModule] = DetrTransformerDecoderLayer

    def __init__(
        self,
        num_layers: int,
        layer_cfg: ConfigType,
        post_norm_cfg: OptConfigType = dict(type='LN'),
        return_intermediate: bool = True,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_layers = num_layers
        self.layer_cfg = layer_cfg
        self.post_norm_cfg = post_norm_cfg
        self.return_intermediate = return_intermediate
        self._init_layers()

    def _init_layers(self) -> None:
        self.layers = ModuleList([self.layer_class(**self.layer_cfg) for _ in range(self.num_layers)])
        self.embed_dims = self.layers[0].embed_dims
        self.post_norm = build_norm_layer(self.post_norm_cfg, self.embed_dims)[1]

    def _outputs(self, queries: list[Tensor]) -> Tensor:
        """``(L, B, Q, C)`` the normed queries after every layer; of the last alone L is 1."""
        wanted = queries if self.return_intermediate else queries[-1:]
        return torch.stack([self.post_norm(query) for query in wanted])

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_pos: Tensor,
        key_pos: Tensor,
        key_padding_mask: Tensor | None,
        **kwargs: Any,
    ) -> Tensor:
        """``(L, B, Q, C)`` of queries ``(B, Q, C)``; arguments as a layer's."""
        queries = []
        for layer in self.layers:
            query = layer(
                query,
                key=key,
                value=value,
                query_pos=query_pos,
                key_pos=key_pos,
                key_padding_mask=key_padding_mask,
                **kwargs,
            )
            queries.append(query)
        return self._outputs(queries)
