"""Attention between pictures and texts (GLIP, arXiv:2112.03857, Sec. 3.2; Grounding DINO, arXiv:2303.05499, Sec. 3.2).

Letters: B images, V cells, T tokens, C and D channels of cells and of tokens, H heads.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

MAX_CLAMP_VALUE = 50000
"""Half precision ends a little above."""


def permute_and_flatten(layer: Tensor, N: int, A: int, C: int, H: int, W: int) -> Tensor:  # as in 3.x
    """``(N, H * W * A, C)`` of maps ``(N, A * C, H, W)``."""
    return layer.view(N, A, C, H, W).permute(0, 3, 4, 1, 2).reshape(N, -1, C)


def clamp_values(vector: Tensor) -> Tensor:
    """Values that half precision has."""
    return vector.clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)


class BiMultiHeadAttention(nn.Module):
    """Cells look at tokens and tokens at cells, by one matrix of products.

    Args:
        v_dim, l_dim: C and D.
        embed_dim: Channels of queries, keys and values.
        dropout: Rate for the attention weights.
    """

    def __init__(self, v_dim: int, l_dim: int, embed_dim: int, num_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.v_dim = v_dim
        self.l_dim = l_dim
        self.scale = self.head_dim**-0.5
        self.dropout = dropout
        self.v_proj = nn.Linear(v_dim, embed_dim)
        self.l_proj = nn.Linear(l_dim, embed_dim)
        self.values_v_proj = nn.Linear(v_dim, embed_dim)
        self.values_l_proj = nn.Linear(l_dim, embed_dim)
        self.out_v_proj = nn.Linear(embed_dim, v_dim)
        self.out_l_proj = nn.Linear(embed_dim, l_dim)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def _shape(self, tensor: Tensor, seq_len: int, bsz: int) -> Tensor:
        return tensor.view(bsz, seq_len, self.num_heads, -1).transpose(1, 2)  # (B, H, V or T, .)

    def forward(
        self,
        vision: Tensor,
        lang: Tensor,
        attention_mask_v: Tensor | None = None,
        attention_mask_l: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``(B, V, C)`` that cells, and ``(B, T, D)`` that tokens find.

        Args:
            attention_mask_v: ``(B, V)`` True at cells that nothing looks at.
            attention_mask_l: ``(B, T)`` not zero at tokens that are looked at.
        """
        batch, num_cells, num_tokens = len(vision), vision.shape[1], lang.shape[1]
        cells = self._shape(self.v_proj(vision) * self.scale, num_cells, batch)
        seen_cells = self._shape(self.values_v_proj(vision), num_cells, batch)
        tokens = self._shape(self.l_proj(lang), num_tokens, batch)
        seen_tokens = self._shape(self.values_l_proj(lang), num_tokens, batch)
        products = clamp_values(cells @ tokens.transpose(-1, -2))  # (B, H, V, T)
        to_cells = products.transpose(-1, -2)
        to_cells = clamp_values(to_cells - to_cells.amax(-1, keepdim=True))
        if attention_mask_v is not None:
            to_cells = to_cells.masked_fill(attention_mask_v[:, None, None].bool(), -torch.inf)
        if attention_mask_l is not None:
            products = products.masked_fill(attention_mask_l[:, None, None] == 0, torch.finfo(products.dtype).min)
        drop = lambda weights: F.dropout(weights, self.dropout, self.training)
        found = drop(products.softmax(-1)) @ seen_tokens
        told = drop(to_cells.softmax(-1)) @ seen_cells
        return tuple(  # type: ignore[return-value]
            out(x.transpose(1, 2).flatten(2)) for out, x in ((self.out_v_proj, found), (self.out_l_proj, told))
        )


class SingleScaleBiAttentionBlock(nn.Module):
    """Norms, attention in both directions, and residuals on the normed features, scaled by channel.

    Args:
        drop_path: Rate at which an image goes without.
        init_values: The scales at the start.
    """

    def __init__(
        self,
        v_dim: int,
        l_dim: int,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        init_values: float = 1e-4,
    ) -> None:
        super().__init__()
        self.layer_norm_v = nn.LayerNorm(v_dim)
        self.layer_norm_l = nn.LayerNorm(l_dim)
        self.attn = BiMultiHeadAttention(v_dim, l_dim, embed_dim, num_heads, dropout)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.gamma_v = nn.Parameter(init_values * torch.ones(v_dim))
        self.gamma_l = nn.Parameter(init_values * torch.ones(l_dim))

    def single_attention_call(
        self,
        visual: Tensor,
        lang: Tensor,
        attention_mask_v: Tensor | None = None,
        attention_mask_l: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`BiMultiHeadAttention.forward`, of features of the same shapes."""
        visual, lang = self.layer_norm_v(visual), self.layer_norm_l(lang)
        found, told = self.attn(visual, lang, attention_mask_v, attention_mask_l)
        return visual + self.drop_path(self.gamma_v * found), lang + self.drop_path(self.gamma_l * told)

    def forward(
        self,
        visual_feature: Tensor,
        lang_feature: Tensor,
        attention_mask_v: Tensor | None = None,
        attention_mask_l: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`single_attention_call`."""
        return self.single_attention_call(visual_feature, lang_feature, attention_mask_v, attention_mask_l)


class BiAttentionBlock(SingleScaleBiAttentionBlock):
    """The same for the maps of five levels, whose cells the text sees as one set."""

    def forward(  # type: ignore[override]  # as in 3.x
        self,
        vf0: Tensor,
        vf1: Tensor,
        vf2: Tensor,
        vf3: Tensor,
        vf4: Tensor,
        lang_feature: Tensor,
        attention_mask_l: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Maps ``(B, C, H, W)`` of each level and ``(B, T, D)``, of the same."""
        maps = vf0, vf1, vf2, vf3, vf4
        cells = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)
        cells, lang = self.single_attention_call(cells, lang_feature, attention_mask_l=attention_mask_l)
        parts = cells.transpose(1, 2).split([level.shape[-2] * level.shape[-1] for level in maps], 2)
        return *(part.unflatten(2, level.shape[-2:]) for part, level in zip(parts, maps)), lang


class VLFuse(nn.Module):
    """Early fusion of GLIP.

    Args:
        use_checkpoint: Whether activations are computed again in the backward pass.
    """

    def __init__(
        self,
        v_dim: int = 256,
        l_dim: int = 768,
        embed_dim: int = 2048,
        num_heads: int = 8,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.b_attn = BiAttentionBlock(v_dim, l_dim, embed_dim, num_heads, dropout, drop_path, init_values=1 / 6)

    def forward(self, x: dict) -> dict:
        """Maps ``visual`` of five levels and ``hidden`` of ``lang``, of the same."""
        inputs = *x['visual'], x['lang']['hidden'], x['lang']['masks']
        if self.use_checkpoint and torch.is_grad_enabled():
            *maps, hidden = checkpoint(self.b_attn, *inputs, use_reentrant=False)
        else:
            *maps, hidden = self.b_attn(*inputs)
        return dict(visual=maps, lang=dict(x['lang'], hidden=hidden))


class _Projections(nn.Module):
    """Query, key and value of BERT, under its names."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))


class _Residual(nn.Module):
    """A linear layer, dropout, and a norm of what was and what is new."""

    def __init__(self, inner: int, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + identity)


class BertEncoderLayer(nn.Module):
    """A layer of BERT (arXiv:1810.04805) for what the text has become in the fusion.

    Args:
        config: Of a BERT.
        clamp_min_for_underflow, clamp_max_for_overflow: Whether products, and what the layers give, are kept within
            what half precision has.
    """

    def __init__(
        self, config: Any, clamp_min_for_underflow: bool = False, clamp_max_for_overflow: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.low = -MAX_CLAMP_VALUE if clamp_min_for_underflow else None
        self.high = MAX_CLAMP_VALUE if clamp_max_for_overflow else None
        size = config.hidden_size
        self.attention = nn.ModuleDict(dict(self=_Projections(size), output=_Residual(size, config)))
        self.intermediate = nn.ModuleDict(dict(dense=nn.Linear(size, config.intermediate_size)))
        self.output = _Residual(config.intermediate_size, config)
        self.drop_weights = nn.Dropout(config.attention_probs_dropout_prob)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.initializer_range)
                nn.init.zeros_(module.bias)

    def _clamped(self, x: Tensor) -> Tensor:
        return x if self.low is None and self.high is None else x.clamp(self.low, self.high)

    def _attend(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, D)``; ``mask`` is ``(B, T)`` or ``(B, T, T)``, not zero where tokens are seen."""
        own = self.attention['self']
        heads = lambda layer: layer(hidden).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        query, key, value = heads(own.query), heads(own.key), heads(own.value)
        products = self._clamped(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5)
        seen = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
        products = products.masked_fill(seen == 0, torch.finfo(products.dtype).min)
        return (self.drop_weights(products.softmax(-1)) @ value).transpose(1, 2).flatten(2)

    def forward(self, inputs: dict) -> dict:
        """``hidden`` of ``lang``, of the same."""
        hidden = inputs['lang']['hidden']
        hidden = self.attention['output'](self._attend(hidden, inputs['lang']['masks']), hidden)
        hidden = self.feed_forward_chunk(self._clamped(hidden))
        return dict(visual=inputs['visual'], lang=dict(inputs['lang'], hidden=hidden))

    def feed_forward_chunk(self, attention_output: Tensor) -> Tensor:
        """``(B, T, D)`` of the same."""
        inner = self._clamped(F.gelu(self._clamped(self.intermediate['dense'](attention_output))))
        return self._clamped(self.output(inner, attention_output))
