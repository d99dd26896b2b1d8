"""Plain vision transformers of one scale: windowed ViT (LW-DETR, arXiv:2406.03459) and DINOv2 (arXiv:2304.07193).

Letters: B images, W windows along a side, T cells of a window, H heads, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import run_checkpointed
from mmdet.models.layers.mlp import GatedMLP
from mmdet.registry import MODELS

from .base import TransformerBackbone, height_and_width


def resized_positions(places: Tensor, grid: tuple[int, int], size: Sequence[int], antialias: bool = False) -> Tensor:
    """``(1, *size, C)`` of the learned positions ``(1, T, C)`` of the cells of ``grid``, row by row."""
    places = places.unflatten(1, grid)
    if tuple(size) == grid:
        return places
    maps = places.permute(0, 3, 1, 2).float()
    maps = F.interpolate(maps, tuple(size), mode='bicubic', align_corners=False, antialias=antialias)
    return maps.permute(0, 2, 3, 1).to(places.dtype)


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """``(N, H, T, C / H)`` whose channels i and i + half are coordinates that turn by an angle (RoPE,
    arXiv:2104.09864).

    Args:
        cosine, sine: ``(S, C / H)`` of the angles of the last S tokens; those before them, no cells, stay.
    """
    tokens = x.shape[-2] - len(cosine)
    cells = x[..., tokens:, :]
    first, second = cells.chunk(2, -1)
    cells = cells * cosine + torch.cat([-second, first], -1) * sine
    return torch.cat([x[..., :tokens, :], cells], -2)


class SelfAttention(BaseModule):
    """Attention among all tokens of a row of the batch.

    Args:
        key_bias: Whether keys have a bias; without it queries and values alone have (BEiT, arXiv:2106.08254).
    """

    def __init__(self, embed_dims: int, num_heads: int, key_bias: bool = True) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise UserValueError(f'embed_dims={embed_dims} is not divisible by num_heads={num_heads}')
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, embed_dims * 3, bias=key_bias)
        if not key_bias:
            self.q_bias = nn.Parameter(torch.zeros(embed_dims))
            self.v_bias = nn.Parameter(torch.zeros(embed_dims))
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """``(N, T, C)`` of the same; with ``turns``, queries and keys are :func:`turned` by them."""
        bias = self.qkv.bias
        if bias is None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if turns is not None:
            query, key = turned(query, *turns), turned(key, *turns)
        out = F.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(1, 2).flatten(2))


class Block(BaseModule):
    """Attention and a feed-forward block, each with a norm before it and a learned scale after it."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        key_bias: bool = True,
        layer_scale: float = 1.0,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, norm_eps)
        self.attn = SelfAttention(embed_dims, num_heads, key_bias)
        self.gamma1 = nn.Parameter(torch.full((embed_dims,), layer_scale))
        self.norm2 = nn.LayerNorm(embed_dims, norm_eps)
        hidden = int(embed_dims * mlp_ratio)
        plain = nn.Linear(embed_dims, hidden), nn.GELU(), nn.Linear(hidden, embed_dims)
        self.mlp = GatedMLP(embed_dims, hidden) if gated else nn.Sequential(*plain)
        self.gamma2 = nn.Parameter(torch.full((embed_dims,), layer_scale))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, rows: int, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """``(N, T, C)`` of the same; ``rows`` of the batch are seen together by the attention."""
        seen = self.norm1(x)
        seen = self.attn(seen.reshape(rows, -1, x.shape[-1]), turns).reshape(x.shape)
        x = x + self.drop_path(self.gamma1 * seen)
        return x + self.drop_path(self.gamma2 * self.mlp(self.norm2(x)))


@MODELS.register_module()
class WindowedViT(TransformerBackbone):
    """A plain ViT, some of whose blocks attend within windows; all its outputs have the stride of a patch.

    Cells are put in the order of their windows once, so that no block has to move them (LW-DETR, Sec. 3.3).

    Args:
        pretrain_size: Side of the pictures whose patches have a learned position each; others are interpolated.
        out_indices: Blocks, counted from 0, whose outputs are wanted; later ones do nothing and are frozen.
        window_blocks: Blocks that attend within windows.
        num_windows: W.
        key_bias, layer_scale: As in :class:`Block`; all blocks have a learned scale.
        drop_path_rate: Of the last block; earlier ones have less, in proportion.
    """

    antialias = False
    num_tokens = 0  # that are no cells

    def __init__(
        self,
        embed_dims: int = 192,
        depth: int = 10,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        patch_size: int = 16,
        pretrain_size: int | Sequence[int] = 224,
        out_indices: Sequence[int] = (2, 4, 5, 9),
        window_blocks: Sequence[int] = (0, 1, 3, 6, 7, 9),
        num_windows: int = 4,
        key_bias: bool = False,
        layer_scale: float = 0.1,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, blocks in (('out_indices', out_indices), ('window_blocks', window_blocks)):
            if not set(blocks) <= set(range(depth)):
                raise UserValueError(f'{name} must be among 0 to {depth - 1}, got {tuple(blocks)}')
        if num_windows < 1:
            raise UserValueError(f'num_windows must be at least 1, got {num_windows}')
        self.embed_dims = embed_dims
        self.patch_size = patch_size
        self.out_indices = tuple(out_indices)
        self.window_blocks = frozenset(window_blocks)
        self.num_windows = num_windows
        self.with_cp = with_cp
        height, width = height_and_width(pretrain_size, 'pretrain_size')
        self.grid = height // patch_size, width // patch_size
        self.patch_embed = nn.Conv2d(3, embed_dims, patch_size, stride=patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid[0] * self.grid[1], embed_dims))
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        blocks = [Block(embed_dims, num_heads, mlp_ratio, key_bias, layer_scale, rate) for rate in rates]
        self.blocks = nn.ModuleList(blocks)
        self.norm = self._norm()
        for block in self.blocks[max(out_indices) + 1 :]:
            block.requires_grad_(False)

    def _norm(self) -> nn.Module:
        """What outputs pass."""
        return nn.Identity()

    def _init_from_scratch(self) -> None:
        super()._init_from_scratch()
        trunc_normal_(self.pos_embed, std=0.02)

    def _positions(self, height: int, width: int) -> Tensor:
        """``(1, height, width, C)``."""
        return resized_positions(self.pos_embed[:, 1:], self.grid, (height, width), self.antialias)

    def _tokens(self, cells: Tensor) -> Tensor:
        """Tokens ``(B * W * W, 0 or 1 + T, C)`` of ``(B * W * W, T, C)``."""
        return cells

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` -> maps of ``out_indices``, ``(B, C, H / patch, W / patch)`` each."""
        step = self.patch_size * self.num_windows
        if x.shape[2] % step or x.shape[3] % step:
            raise UserValueError(
                f'{type(self).__name__} takes pictures whose sides are multiples of {step} (patch_size * num_windows), '
                f'got {x.shape[2]}x{x.shape[3]}'
            )
        cells = self.patch_embed(x).permute(0, 2, 3, 1)
        batch, height, width, _ = cells.shape
        size = height // self.num_windows, width // self.num_windows
        cells = cells + self._positions(height, width)
        windows = cells.unflatten(2, (self.num_windows, size[1])).unflatten(1, (self.num_windows, size[0]))
        tokens = self._tokens(windows.transpose(2, 3).flatten(0, 2).flatten(1, 2))
        outs = []
        for index, block in enumerate(list(self.blocks)[: max(self.out_indices) + 1]):
            rows = tokens.shape[0] if index in self.window_blocks else batch
            tokens = run_checkpointed(lambda t, block=block, rows=rows: block(t, rows), tokens, self.with_cp)
            if index in self.out_indices:
                maps = self.norm(tokens)[:, self.num_tokens :]
                maps = maps.unflatten(1, size).unflatten(0, (batch, self.num_windows, self.num_windows))
                outs.append(maps.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2))
        return tuple(outs)


@MODELS.register_module()
class DINOv2(WindowedViT):
    """DINOv2's ViT with windows as RF-DETR has them: the class token is in every window.

    Args:
        pretrain_size: 518 for the weights of DINOv2, with patches of 14.
    """

    antialias = True
    num_tokens = 1

    def __init__(
        self,
        embed_dims: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        patch_size: int = 14,
        pretrain_size: int | Sequence[int] = 518,
        out_indices: Sequence[int] = (1, 4, 7, 10),
        window_blocks: Sequence[int] = (0, 1, 3, 4, 6, 7, 9, 10),
        key_bias: bool = True,
        layer_scale: float = 1.0,
        **kwargs,
    ) -> None:
        options = dict(key_bias=key_bias, layer_scale=layer_scale, out_indices=out_indices, window_blocks=window_blocks)
        super().__init__(
            embed_dims, depth, num_heads, patch_size=patch_size, pretrain_size=pretrain_size, **options, **kwargs
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))

    def _norm(self) -> nn.Module:
        return nn.LayerNorm(self.embed_dims, 1e-6)

    def _tokens(self, cells: Tensor) -> Tensor:
        token = (self.cls_token + self.pos_embed[:, :1]).expand(cells.shape[0], -1, -1)
        return torch.cat([token, cells], 1)
