"""The plain vision transformer of ViTDet (arXiv:2203.16527).

Letters: B images, N pictures or windows, H, W cells of one, T = H * W, A heads, D channels of a head, C channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import build_norm_layer, run_checkpointed
from mmdet.ops.fixed_size import is_symbolic
from mmdet.registry import MODELS

from .base import TransformerBackbone, height_and_width
from .vit import SelfAttention, resized_positions

LARGEST_BIAS = 2**27  # numbers; where the biases of all pairs are more, they are made within the attention


def relative_rows(table: Tensor, size: int) -> Tensor:
    """``(size, size, D)``: the row of ``table (2 * length - 1, D)`` for each query and each key along one side.

    A table of another length is stretched.
    """
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None].float(), 2 * size - 1, mode='linear')[0].T.to(table)
    places = torch.arange(size, device=table.device)
    return table[places[:, None] - places + size - 1]


class RelativeAttention(SelfAttention):
    """Attention among cells, with a learned bias for each distance in height and one for each in width (MViTv2,
    arXiv:2112.01526, Sec. 4.1).

    Args:
        size: Height and width, in cells, that the tables are made for; None for no biases.
    """

    def __init__(self, embed_dims: int, num_heads: int, size: tuple[int, int] | None = None, bias: bool = True) -> None:
        super().__init__(embed_dims, num_heads)
        if not bias:
            self.qkv = nn.Linear(embed_dims, embed_dims * 3, bias=False)
        self.with_relative = size is not None
        if size is not None:
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * size[0] - 1, embed_dims // num_heads))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * size[1] - 1, embed_dims // num_heads))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """``(N, H, W, C)`` of the same."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).flatten(1, 2).permute(2, 0, 3, 1, 4)
        if self.with_relative:
            out = self._with_biases(query, key, value, x.shape[1:3])
        else:
            out = F.scaled_dot_product_attention(query, key, value)  # (N, A, T, D)
        return self.proj(out.transpose(1, 2).flatten(2)).unflatten(1, x.shape[1:3])

    def _with_biases(self, query: Tensor, key: Tensor, value: Tensor, size: torch.Size) -> Tensor:
        height, width = size
        cells, dims = query.unflatten(2, (height, width)), query.shape[-1]
        rows, columns = relative_rows(self.rel_pos_h, height), relative_rows(self.rel_pos_w, width)
        by_row = torch.einsum('nahwd,hkd->nahwk', cells, rows.to(cells)).flatten(2, 3)  # (N, A, T, H)
        by_column = torch.einsum('nahwd,wkd->nahwk', cells, columns.to(cells)).flatten(2, 3)  # (N, A, T, W)
        if not is_symbolic(by_row.shape) and by_row.numel() * width <= LARGEST_BIAS:
            biases = (by_row[..., None] + by_column[..., None, :]).flatten(3)  # (N, A, T, T)
            return F.scaled_dot_product_attention(query, key, value, attn_mask=biases)
        # A key that also says its row and its column as unit vectors meets the biases in the product with the query.
        row, column = torch.eye(height).to(key), torch.eye(width).to(key)
        where = torch.cat([row.repeat_interleave(width, 0), column.repeat(height, 1)], 1)
        query = torch.cat([query * dims**-0.5, by_row, by_column], -1)
        key = torch.cat([key, where.expand(*key.shape[:2], -1, -1)], -1)
        value = F.pad(value, (0, height + width))  # of the same width, which fused kernels need
        return F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :dims]


class ViTBlock(BaseModule):
    """Attention within windows, or in the whole picture, then a feed-forward block; a norm before each.

    Args:
        window_size: Side of a window, in cells; 0 for the whole picture. Cells that fill the last windows are zeros.
        size: See :class:`RelativeAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: float,
        bias: bool,
        drop_path: float,
        norm_cfg: dict,
        act_cfg: dict,
        window_size: int,
        size: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.attn = RelativeAttention(embed_dims, num_heads, size, bias)
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)[1]
        hidden = int(embed_dims * mlp_ratio)
        layers = dict(
            fc1=nn.Linear(embed_dims, hidden), act=build_activation_layer(act_cfg), fc2=nn.Linear(hidden, embed_dims)
        )
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def _attend(self, x: Tensor) -> Tensor:
        side = self.window_size
        if not side:
            return self.attn(x)
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        windows = (
            x.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
        )  # (B, rows, columns, side, side, C)
        seen = self.attn(windows.flatten(0, 2)).unflatten(0, windows.shape[:3])
        return seen.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` of the same."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


@MODELS.register_module()
class ViT(TransformerBackbone):
    """`Exploring Plain Vision Transformer Backbones for Object Detection <https://arxiv.org/abs/2203.16527>`_

    Most blocks attend within windows, a few in the whole picture; the only output has the stride of a patch. Pictures
    of any size whose sides are multiples of ``patch_size`` are taken. Names of weights are those of MAE's and ViTDet's
    releases.

    Args:
        img_size: Side of the pictures that the relative positions of blocks without windows are made for, in pixels;
            others stretch them.
        window_size: Side of a window, in cells.
        window_block_indexes: Blocks that attend within windows.
        use_abs_pos: Whether cells have a learned position each.
        use_rel_pos: Whether attention has the biases of :class:`RelativeAttention`.
        use_act_checkpoint: Whether blocks are computed again in the backward pass in place of being remembered.
        pretrain_img_size: Side of the pictures whose cells have a learned position each; others are interpolated.
        pretrain_use_cls_token: Whether the learned positions begin with one that belongs to no cell.
        drop_path_rate: Of the last block; earlier ones have less, in proportion.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` reads a file of MAE or of a ViT classifier.
    """

    def __init__(
        self,
        img_size: int | Sequence[int] = 1024,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_cfg: dict = dict(type='LN', eps=1e-6),
        act_cfg: dict = dict(type='GELU'),
        use_abs_pos: bool = True,
        use_rel_pos: bool = False,
        window_size: int = 0,
        window_block_indexes: Sequence[int] = (),
        use_act_checkpoint: bool = False,
        pretrain_img_size: int | Sequence[int] = 224,
        pretrain_use_cls_token: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not set(window_block_indexes) <= set(range(depth)):
            raise UserValueError(
                f'window_block_indexes must be among 0 to {depth - 1}, got {tuple(window_block_indexes)}'
            )
        if window_block_indexes and window_size < 1:
            raise UserValueError(f'window_size must be at least 1 for blocks with windows, got {window_size}')
        self.embed_dims = embed_dim
        self.patch_size = patch_size
        self.use_act_checkpoint = use_act_checkpoint
        self.pretrain_use_cls_token = pretrain_use_cls_token
        cells = lambda size, name: tuple(side // patch_size for side in height_and_width(size, name))
        self.grid = cells(pretrain_img_size, 'pretrain_img_size')
        patches = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        places = self.grid[0] * self.grid[1] + pretrain_use_cls_token
        self.pos_embed = nn.Parameter(torch.zeros(1, places, embed_dim)) if use_abs_pos else None
        self.blocks = nn.ModuleList()
        for index in range(depth):
            side = window_size if index in window_block_indexes else 0
            size = ((side, side) if side else cells(img_size, 'img_size')) if use_rel_pos else None
            rate = drop_path_rate * index / max(depth - 1, 1)
            self.blocks.append(ViTBlock(embed_dim, num_heads, mlp_ratio, qkv_bias, rate, norm_cfg, act_cfg, side, size))

    def _init_from_scratch(self) -> None:
        super()._init_from_scratch()
        if self.pos_embed is not None:
            trunc_normal_(self.pos_embed, std=0.02)

    def _own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of MAE's and ViTDet's files: what precedes the names of a backbone is cut off."""
        inner = [key for key in state if key.endswith('patch_embed.proj.weight')]
        start = inner[0].removesuffix('patch_embed.proj.weight') if inner else ''
        return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """``(B, 3, H, W)`` -> one map ``(B, C, H / patch, W / patch)``."""
        if x.shape[2] % self.patch_size or x.shape[3] % self.patch_size:
            raise UserValueError(
                f'ViT takes pictures whose sides are multiples of patch_size={self.patch_size}, '
                f'got {x.shape[2]}x{x.shape[3]}; set pad_size_divisor of the data preprocessor'
            )
        cells = self.patch_embed(x).permute(0, 2, 3, 1)
        if self.pos_embed is not None:
            places = self.pos_embed[:, int(self.pretrain_use_cls_token) :]
            cells = cells + resized_positions(places, self.grid, cells.shape[1:3])
        for block in self.blocks:
            cells = run_checkpointed(block, cells, self.use_act_checkpoint)
        return (cells.permute(0, 3, 1, 2),)
