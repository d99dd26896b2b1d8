"""Swin Transformer (arXiv:2103.14030)."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import build_dropout
from mmengine.model import BaseModule, ModuleList
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.backbones.base import TransformerBackbone, freeze, height_and_width
from mmdet.models.layers.building import build_norm_layer, pretrained_init_cfg, run_checkpointed
from mmdet.models.layers.mlp import FFN
from mmdet.models.layers.patch import PatchEmbed, PatchMerging
from mmdet.registry import MODELS


class WindowMSA(BaseModule):
    """Multi-head self-attention inside windows, with a learned bias for each relative position (Eq. 4)."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: tuple[int, int],
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dims = embed_dims
        self.window_size = window_size
        self.num_heads = num_heads
        self.scale = qk_scale or (embed_dims // num_heads) ** -0.5
        height, width = window_size
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * height - 1) * (2 * width - 1), num_heads))
        row, column = torch.arange(height * width) // width, torch.arange(height * width) % width
        row_offset = row[:, None] - row + height - 1  # (N, N), N positions of a window
        column_offset = column[:, None] - column + width - 1
        self.register_buffer('relative_position_index', row_offset * (2 * width - 1) + column_offset)
        self.qkv = nn.Linear(embed_dims, embed_dims * 3, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop_rate)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop_rate)

    @staticmethod
    def double_step_seq(step1: int, len1: int, step2: int, len2: int) -> Tensor:
        """``(1, len1 * len2)``: all sums ``i * step1 + j * step2``, row by row."""
        return (torch.arange(len1)[:, None] * step1 + torch.arange(len2) * step2).reshape(1, -1)

    def init_weights(self) -> None:
        trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend inside each window.

        Args:
            x: (B*W, N, C), the W windows of an image one after the other.
            mask: (W, N, N), added to the attention before the softmax.
        """
        num_windows, length, channels = x.shape
        q, k, v = self.qkv(x).view(num_windows, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]  # (1, h, N, N)
        if mask is not None:  # windows and heads share one axis, so that the bias is not copied for every image
            bias = (bias + mask[:, None]).flatten(0, 1)[None]
            q, k, v = (t.reshape(-1, len(mask) * self.num_heads, length, t.shape[-1]) for t in (q, k, v))
        dropout = self.attn_drop.p if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, bias.to(q.dtype), dropout, scale=self.scale)
        x = x.reshape(num_windows, self.num_heads, length, -1).transpose(1, 2).reshape(num_windows, length, channels)
        return self.proj_drop(self.proj(x))


class ShiftWindowMSA(BaseModule):
    """Attention in windows that are shifted by ``shift_size`` pixels (Sec. 3.2)."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int,
        shift_size: int = 0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop_rate: float = 0,
        proj_drop_rate: float = 0,
        dropout_layer: dict = dict(type='DropPath', drop_prob=0.0),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not 0 <= shift_size < window_size:
            raise UserValueError(f'shift_size must be 0 to {window_size - 1} (window_size - 1), got {shift_size}')
        self.window_size = window_size
        self.shift_size = shift_size
        self.w_msa = WindowMSA(
            embed_dims, num_heads, (window_size, window_size), qkv_bias, qk_scale, attn_drop_rate, proj_drop_rate
        )
        self.drop = build_dropout(dropout_layer)

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, H*W, C) with ``hw_shape`` (H, W) -> (B, H*W, C)"""
        batch, _, channels = query.shape
        height, width = hw_shape
        size, shift = self.window_size, self.shift_size
        x = query.view(batch, height, width, channels)
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
        padded = x.shape[1:3]
        mask = None
        if shift > 0:
            x = torch.roll(x, (-shift, -shift), dims=(1, 2))
            mask = self._shift_mask(padded, x)
        windows = self.window_partition(x).flatten(1, 2)  # (B*W, N, C)
        windows = self.w_msa(windows, mask).view(-1, size, size, channels)
        x = self.window_reverse(windows, *padded)
        if shift > 0:
            x = torch.roll(x, (shift, shift), dims=(1, 2))
        return self.drop(x[:, :height, :width].reshape(batch, height * width, channels))

    def _shift_mask(self, padded: tuple[int, int], x: Tensor) -> Tensor:
        """(W, N, N): -100 between pixels that the cyclic shift brought together, else 0."""

        def bands(length: int) -> Tensor:  # the regions that stay neighbours along one axis: 0, 1, 2
            position = torch.arange(length, device=x.device)
            return (position >= length - self.window_size).long() + (position >= length - self.shift_size)

        regions = bands(padded[0])[:, None] * 3 + bands(padded[1])
        regions = self.window_partition(regions[None, ..., None]).flatten(1)  # (W, N)
        return torch.zeros((), dtype=x.dtype, device=x.device).where(regions[:, None] == regions[:, :, None], -100.0)

    def window_reverse(self, windows: Tensor, H: int, W: int) -> Tensor:
        """(B*W, size, size, C) -> (B, H, W, C)"""
        size = self.window_size
        x = windows.view(-1, H // size, W // size, size, size, windows.shape[-1])
        return x.transpose(2, 3).reshape(-1, H, W, windows.shape[-1])

    def window_partition(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B*W, size, size, C)"""
        batch, height, width, channels = x.shape
        size = self.window_size
        x = x.view(batch, height // size, size, width // size, size, channels)
        return x.transpose(2, 3).reshape(-1, size, size, channels)


class SwinBlock(BaseModule):
    """Attention inside windows and a feed-forward network, each with its norm before it."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        window_size: int = 7,
        shift: bool = False,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        act_cfg: dict = dict(type='GELU'),
        norm_cfg: dict = dict(type='LN'),
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.with_cp = with_cp
        drop_path = dict(type='DropPath', drop_prob=drop_path_rate)
        self.norm1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.attn = ShiftWindowMSA(
            embed_dims,
            num_heads,
            window_size,
            window_size // 2 if shift else 0,
            qkv_bias,
            qk_scale,
            attn_drop_rate,
            drop_rate,
            drop_path,
        )
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.ffn = FFN(embed_dims, feedforward_channels, 2, act_cfg, drop_rate, drop_path, add_identity=True)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Tokens ``(B, H * W, C)`` of the same shape."""

        def block(x: Tensor) -> Tensor:
            x = x + self.attn(self.norm1(x), hw_shape)
            return self.ffn(self.norm2(x), identity=x)

        return run_checkpointed(block, x, self.with_cp)


class SwinBlockSequence(BaseModule):
    """One stage: blocks, every second of them shifted, and the merging that follows, if any."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        depth: int,
        window_size: int = 7,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float | list[float] = 0.0,
        downsample: BaseModule | None = None,
        act_cfg: dict = dict(type='GELU'),
        norm_cfg: dict = dict(type='LN'),
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        rates = drop_path_rate if isinstance(drop_path_rate, list) else [drop_path_rate] * depth
        if len(rates) != depth:
            raise UserValueError(f'drop_path_rate must name each of the {depth} blocks, got {rates}')
        self.blocks = ModuleList(
            SwinBlock(
                embed_dims,
                num_heads,
                feedforward_channels,
                window_size,
                i % 2 == 1,
                qkv_bias,
                qk_scale,
                drop_rate,
                attn_drop_rate,
                rates[i],
                act_cfg,
                norm_cfg,
                with_cp,
            )
            for i in range(depth)
        )
        self.downsample = downsample

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> tuple[Tensor, tuple[int, int], Tensor, tuple[int, int]]:
        """Input of the next stage with its size, output of the blocks with its size."""
        for block in self.blocks:
            x = block(x, hw_shape)
        if self.downsample is None:
            return x, hw_shape, x, hw_shape
        return *self.downsample(x, hw_shape), x, hw_shape


@MODELS.register_module()
class SwinTransformer(TransformerBackbone):
    """Swin Transformer, returning normalised maps of the stages ``out_indices``.

    Args:
        pretrain_img_size: Image size of the absolute position embedding.
        strides: Stride of the embedding, then of the merging after each stage but the last.
        patch_norm: Norm layers after the embedding and in the mergings.
        convert_weights: The pretrained file has the names of the official release.
        frozen_stages: 0 freezes the embedding, i also the stages up to i.
    """

    def __init__(
        self,
        pretrain_img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        embed_dims: int = 96,
        patch_size: int | tuple[int, int] = 4,
        window_size: int = 7,
        mlp_ratio: int = 4,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        num_heads: tuple[int, ...] = (3, 6, 12, 24),
        strides: tuple[int, ...] = (4, 2, 2, 2),
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        patch_norm: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        use_abs_pos_embed: bool = False,
        act_cfg: dict = dict(type='GELU'),
        norm_cfg: dict = dict(type='LN'),
        with_cp: bool = False,
        pretrained: str | None = None,
        convert_weights: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(pretrained_init_cfg(pretrained, init_cfg))
        if patch_size != strides[0]:
            raise UserValueError(
                f'patches must not overlap: patch_size ({patch_size}) must be strides[0] ({strides[0]})'
            )
        pretrain_img_size = height_and_width(pretrain_img_size, 'pretrain_img_size')
        num_layers = len(depths)
        self.out_indices = out_indices
        self.use_abs_pos_embed = use_abs_pos_embed
        self.convert_weights = convert_weights
        self.frozen_stages = frozen_stages
        self.num_features = [int(embed_dims * 2**i) for i in range(num_layers)]
        self.patch_embed = PatchEmbed(
            in_channels,
            embed_dims,
            kernel_size=patch_size,
            stride=strides[0],
            norm_cfg=norm_cfg if patch_norm else None,
        )
        if use_abs_pos_embed:
            self.patch_grid = tuple(size // patch_size for size in pretrain_img_size)
            num_patches = self.patch_grid[0] * self.patch_grid[1]
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, num_patches, embed_dims))
        self.drop_after_pos = nn.Dropout(drop_rate)

        num_blocks = sum(depths)
        rates = [drop_path_rate * i / max(num_blocks - 1, 1) for i in range(num_blocks)]  # deeper, more often
        self.stages = ModuleList()
        for i in range(num_layers):
            channels = self.num_features[i]
            downsample = None
            if i < num_layers - 1:
                downsample = PatchMerging(
                    channels, 2 * channels, stride=strides[i + 1], norm_cfg=norm_cfg if patch_norm else None
                )
            start = sum(depths[:i])
            self.stages.append(
                SwinBlockSequence(
                    channels,
                    num_heads[i],
                    mlp_ratio * channels,
                    depths[i],
                    window_size,
                    qkv_bias,
                    qk_scale,
                    drop_rate,
                    attn_drop_rate,
                    rates[start : start + depths[i]],
                    downsample,
                    act_cfg,
                    norm_cfg,
                    with_cp,
                )
            )
        for i in out_indices:
            self.add_module(f'norm{i}', build_norm_layer(norm_cfg, self.num_features[i])[1])

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.patch_embed, self.drop_after_pos, *self.stages[: self.frozen_stages]]
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        freeze(frozen)
        if self.use_abs_pos_embed:
            self.absolute_pos_embed.requires_grad = False

    def _init_from_scratch(self) -> None:
        if self.use_abs_pos_embed:
            trunc_normal_(self.absolute_pos_embed, std=0.02)
        super()._init_from_scratch()

    def _init_module(self, module: nn.Module) -> None:
        super()._init_module(module)
        if isinstance(module, WindowMSA):
            module.init_weights()

    def _own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = {name.removeprefix('module.'): value for name, value in state.items()}
        if self.convert_weights:
            state = swin_converter(state)
        prefix = 'backbone.'
        if any(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        return state

    def _own_sizes(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Position biases of another window size are interpolated."""
        own = self.state_dict()
        if 'absolute_pos_embed' in own and 'absolute_pos_embed' in state:
            state['absolute_pos_embed'] = state['absolute_pos_embed'].reshape(own['absolute_pos_embed'].shape)
        for name, value in own.items():
            if name.endswith('relative_position_index'):
                state[name] = value  # depends on the window size only
            elif name.endswith('relative_position_bias_table') and name in state:
                state[name] = _resize_bias_table(name, state[name], value)
        return state

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` -> the maps of ``out_indices``."""
        x, hw_shape = self.patch_embed(x)
        if self.use_abs_pos_embed:
            embedding = self.absolute_pos_embed
            if hw_shape != self.patch_grid:
                grid = embedding.transpose(1, 2).unflatten(2, self.patch_grid)
                embedding = F.interpolate(grid, hw_shape, mode='bicubic').flatten(2).transpose(1, 2)
            x = x + embedding
        x = self.drop_after_pos(x)
        outs = []
        for i, stage in enumerate(self.stages):
            x, hw_shape, out, out_size = stage(x, hw_shape)
            if i in self.out_indices:
                out = getattr(self, f'norm{i}')(out)
                outs.append(out.transpose(1, 2).unflatten(2, out_size).contiguous())
        return tuple(outs)


def _resize_bias_table(name: str, table: Tensor, wanted: Tensor) -> Tensor:
    """((2*H-1)*(2*W-1), heads) -> the same for another square window"""
    if table.shape[1] != wanted.shape[1]:
        raise UserValueError(f'{name} has {table.shape[1]} heads in the checkpoint, {wanted.shape[1]} in the model')
    if table.shape == wanted.shape:
        return table
    before, after = round(len(table) ** 0.5), round(len(wanted) ** 0.5)
    grid = table.T.reshape(1, -1, before, before)
    return F.interpolate(grid, (after, after), mode='bicubic').reshape(-1, after * after).T.contiguous()


def swin_converter(ckpt: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Weights of the official release under our names, with the prefix ``backbone.``.

    The official merging joins the four neighbours as (0, 0), (1, 0), (0, 1), (1, 1), each with all its channels; ours
    puts the channel first and the neighbours in rows.
    """

    def reorder(x: Tensor) -> Tensor:  # last axis: (column, row, channel) -> (channel, row, column)
        return x.unflatten(-1, (2, 2, -1)).transpose(-1, -3).flatten(-3)

    renames = (('.attn.', '.attn.w_msa.'), ('.mlp.fc1.', '.ffn.layers.0.0.'), ('.mlp.fc2.', '.ffn.layers.1.'))
    out: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in ckpt.items():
        if name.startswith('head'):
            continue
        if name.startswith('layers'):
            name = 'stages' + name.removeprefix('layers')
            for old, new in renames:
                name = name.replace(old, new)
            if '.downsample.' in name:
                value = reorder(value)
        elif name.startswith('patch_embed'):
            name = name.replace('.proj.', '.projection.')
        out[f'backbone.{name}'] = value
    return out
