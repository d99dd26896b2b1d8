"""Pyramid Vision Transformers, v1 (arXiv:2102.12122) and v2 (arXiv:2106.13797)."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks.drop import build_dropout
from mmengine.model import BaseModule, ModuleList
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.backbones.base import TransformerBackbone, height_and_width
from mmdet.models.layers.building import build_norm_layer, pretrained_init_cfg
from mmdet.models.layers.patch import PatchEmbed, nchw_to_nlc, nlc_to_nchw
from mmdet.registry import MODELS


class MixFFN(BaseModule):
    """Feed-forward block of 1x1 convolutions, with a depthwise 3x3 one between them if ``use_conv`` (v2 Sec. 3.3)."""

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        act_cfg: dict = dict(type='GELU'),
        ffn_drop: float = 0.0,
        dropout_layer: dict | None = None,
        use_conv: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dims = embed_dims
        self.feedforward_channels = feedforward_channels
        depthwise = []
        if use_conv:
            depthwise = [
                nn.Conv2d(feedforward_channels, feedforward_channels, 3, padding=1, groups=feedforward_channels)
            ]
        self.layers = nn.Sequential(
            nn.Conv2d(embed_dims, feedforward_channels, 1),
            *depthwise,
            build_activation_layer(act_cfg),
            nn.Dropout(ffn_drop),
            nn.Conv2d(feedforward_channels, embed_dims, 1),
            nn.Dropout(ffn_drop),
        )
        self.dropout_layer = build_dropout(dropout_layer) if dropout_layer else nn.Identity()

    def forward(self, x: Tensor, hw_shape: tuple[int, int], identity: Tensor | None = None) -> Tensor:
        """Tokens ``(B, H * W, C)``; ``identity``, by default ``x``, is added."""
        out = nchw_to_nlc(self.layers(nlc_to_nchw(x, hw_shape)))
        return (x if identity is None else identity) + self.dropout_layer(out)


class SpatialReductionAttention(BaseModule):
    """Attention to keys and values that a strided convolution has made fewer (v1 Sec. 3.3)."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        dropout_layer: dict | None = None,
        batch_first: bool = True,
        qkv_bias: bool = True,
        norm_cfg: dict = dict(type='LN'),
        sr_ratio: int = 1,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not batch_first:
            raise UserValueError('SpatialReductionAttention takes (B, L, C) alone: batch_first must be True')
        self.embed_dims, self.num_heads = embed_dims, num_heads
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, attn_drop, bias=qkv_bias, batch_first=True)
        self.proj_drop = nn.Dropout(proj_drop)
        self.dropout_layer = build_dropout(dropout_layer) if dropout_layer else nn.Identity()
        self.sr_ratio = sr_ratio
        if sr_ratio > 1:
            self.sr = nn.Conv2d(embed_dims, embed_dims, sr_ratio, stride=sr_ratio)
            self.norm = build_norm_layer(norm_cfg, embed_dims)[1]

    def forward(self, x: Tensor, hw_shape: tuple[int, int], identity: Tensor | None = None) -> Tensor:
        """(B, L, C) with ``hw_shape`` (H, W) -> (B, L, C), added to ``identity``"""
        keys = x
        if self.sr_ratio > 1:
            keys = self.norm(nchw_to_nlc(self.sr(nlc_to_nchw(x, hw_shape))))
        out = self.attn(x, keys, keys, need_weights=False)[0]
        return (x if identity is None else identity) + self.dropout_layer(self.proj_drop(out))


class PVTEncoderLayer(BaseModule):
    """Attention and a mixed feed-forward network, each with its norm before it."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        act_cfg: dict = dict(type='GELU'),
        norm_cfg: dict = dict(type='LN'),
        sr_ratio: int = 1,
        use_conv_ffn: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        drop_path = dict(type='DropPath', drop_prob=drop_path_rate)
        self.norm1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.attn = SpatialReductionAttention(
            embed_dims,
            num_heads,
            attn_drop_rate,
            drop_rate,
            drop_path,
            qkv_bias=qkv_bias,
            norm_cfg=norm_cfg,
            sr_ratio=sr_ratio,
        )
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.ffn = MixFFN(embed_dims, feedforward_channels, act_cfg, drop_rate, drop_path, use_conv_ffn)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Tokens ``(B, H * W, C)`` of the same shape."""
        x = self.attn(self.norm1(x), hw_shape, identity=x)
        return self.ffn(self.norm2(x), hw_shape, identity=x)


class AbsolutePositionEmbedding(BaseModule):
    """A learned embedding of ``pos_shape`` positions, interpolated to the size of the input."""

    def __init__(
        self,
        pos_shape: int | tuple[int, int],
        pos_dim: int,
        drop_rate: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.pos_shape = (pos_shape, pos_shape) if isinstance(pos_shape, int) else tuple(pos_shape)
        self.pos_dim = pos_dim
        self.pos_embed = nn.Parameter(torch.zeros(1, self.pos_shape[0] * self.pos_shape[1], pos_dim))
        self.drop = nn.Dropout(drop_rate)

    def init_weights(self) -> None:
        trunc_normal_(self.pos_embed, std=0.02)

    def resize_pos_embed(self, pos_embed: Tensor, input_shape: tuple[int, int], mode: str = 'bilinear') -> Tensor:
        """``(1, h * w, C)`` of the grid ``pos_shape`` as ``(1, H * W, C)``."""
        grid = nlc_to_nchw(pos_embed, self.pos_shape)
        return nchw_to_nlc(F.interpolate(grid, input_shape, mode=mode))

    def forward(self, x: Tensor, hw_shape: tuple[int, int], mode: str = 'bilinear') -> Tensor:
        """Tokens ``(B, H * W, C)`` plus the embedding, resized to their grid."""
        return self.drop(x + self.resize_pos_embed(self.pos_embed, hw_shape, mode))


@MODELS.register_module()
class PyramidVisionTransformer(TransformerBackbone):
    """PVT v1, returning the maps of the stages ``out_indices``.

    Args:
        pretrain_img_size: Image size of the position embeddings.
        embed_dims: Width of one head; a stage has ``embed_dims * num_heads[i]`` channels.
        patch_sizes, strides, paddings: Of each stage's patch embedding.
        sr_ratios: Strides of the convolutions before the keys and values.
        norm_after_stage: A norm layer at the end of each stage.
        use_conv_ffn: A depthwise convolution in each feed-forward block.
        convert_weights: The pretrained file has the names of the official release.
    """

    def __init__(
        self,
        pretrain_img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        embed_dims: int = 64,
        num_stages: int = 4,
        num_layers: list[int] = [3, 4, 6, 3],
        num_heads: list[int] = [1, 2, 5, 8],
        patch_sizes: list[int] = [4, 2, 2, 2],
        strides: list[int] = [4, 2, 2, 2],
        paddings: list[int] = [0, 0, 0, 0],
        sr_ratios: list[int] = [8, 4, 2, 1],
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        mlp_ratios: list[int] = [8, 8, 4, 4],
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        use_abs_pos_embed: bool = True,
        norm_after_stage: bool = False,
        use_conv_ffn: bool = False,
        act_cfg: dict = dict(type='GELU'),
        norm_cfg: dict = dict(type='LN', eps=1e-6),
        pretrained: str | None = None,
        convert_weights: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(pretrained_init_cfg(pretrained, init_cfg))
        per_stage = dict(
            num_layers=num_layers,
            num_heads=num_heads,
            patch_sizes=patch_sizes,
            strides=strides,
            paddings=paddings,
            sr_ratios=sr_ratios,
            mlp_ratios=mlp_ratios,
        )
        for name, values in per_stage.items():
            if len(values) != num_stages:
                raise UserValueError(f'{name}={values} must name each of the {num_stages} stages')
        if max(out_indices) >= num_stages:
            raise UserValueError(f'out_indices {out_indices} name a stage beyond num_stages={num_stages}')
        pretrain_img_size = height_and_width(pretrain_img_size, 'pretrain_img_size')
        self.embed_dims = embed_dims
        self.num_stages = num_stages
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.patch_sizes = patch_sizes
        self.strides = strides
        self.sr_ratios = sr_ratios
        self.out_indices = out_indices
        self.convert_weights = convert_weights

        num_blocks = sum(num_layers)
        rates = iter(drop_path_rate * i / max(num_blocks - 1, 1) for i in range(num_blocks))  # deeper, more often
        self.layers = ModuleList()
        for i in range(num_stages):
            channels = embed_dims * num_heads[i]
            embed = PatchEmbed(
                in_channels,
                channels,
                kernel_size=patch_sizes[i],
                stride=strides[i],
                padding=paddings[i],
                norm_cfg=norm_cfg,
            )
            blocks = ModuleList()
            if use_abs_pos_embed:
                reduced = math.prod(strides[: i + 1])
                pos_shape = tuple(size // reduced for size in pretrain_img_size)
                blocks.append(AbsolutePositionEmbedding(pos_shape, channels, drop_rate))
            for _ in range(num_layers[i]):
                blocks.append(
                    PVTEncoderLayer(
                        channels,
                        num_heads[i],
                        mlp_ratios[i] * channels,
                        drop_rate,
                        attn_drop_rate,
                        next(rates),
                        qkv_bias,
                        act_cfg,
                        norm_cfg,
                        sr_ratios[i],
                        use_conv_ffn,
                    )
                )
            norm = build_norm_layer(norm_cfg, channels)[1] if norm_after_stage else nn.Identity()
            self.layers.append(ModuleList([embed, blocks, norm]))
            in_channels = channels

    def _init_module(self, module: nn.Module) -> None:
        super()._init_module(module)
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
            nn.init.zeros_(module.bias)
        elif isinstance(module, AbsolutePositionEmbedding):
            module.init_weights()

    def _own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return pvt_convert(state) if self.convert_weights else state

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` -> the maps of ``out_indices``."""
        outs = []
        for i, (embed, blocks, norm) in enumerate(self.layers):
            x, hw_shape = embed(x)
            for block in blocks:
                x = block(x, hw_shape)
            x = nlc_to_nchw(norm(x), hw_shape)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


@MODELS.register_module()
class PyramidVisionTransformerV2(PyramidVisionTransformer):
    """PVT v2: overlapping patches, convolutions in the feed-forward blocks, no position embedding."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            patch_sizes=[7, 3, 3, 3],
            paddings=[3, 1, 1, 1],
            use_abs_pos_embed=False,
            norm_after_stage=True,
            use_conv_ffn=True,
            **kwargs,
        )


def pvt_convert(ckpt: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the official releases, v1 or v2, under our names."""
    has_positions = any(name.startswith('pos_embed') for name in ckpt)
    has_depthwise = any('dwconv' in name for name in ckpt)
    renames = {
        'attn.proj': 'attn.attn.out_proj',
        'mlp.fc1': 'ffn.layers.0',
        'mlp.dwconv.dwconv': 'ffn.layers.1',
        'mlp.fc2': 'ffn.layers.4' if has_depthwise else 'ffn.layers.3',
    }
    out: dict[str, Tensor] = {}
    for name, value in ckpt.items():
        match = re.fullmatch(r'(patch_embed|pos_embed|block|norm)(\d)\.?(.*)', name)
        if match is None:
            continue  # the classifier, its token and its norm
        kind, stage, rest = match[1], int(match[2]) - 1, match[3]
        if kind == 'patch_embed':
            out[f'layers.{stage}.0.{rest.replace("proj.", "projection.")}'] = value
        elif kind == 'pos_embed':
            side = math.isqrt(value.shape[1])
            out[f'layers.{stage}.1.0.pos_embed'] = value[:, value.shape[1] - side**2 :]  # without the class token
        elif kind == 'norm':
            out[f'layers.{stage}.2.{rest}'] = value
        else:
            index, layer = rest.split('.', 1)
            prefix = f'layers.{stage}.1.{int(index) + has_positions}.'
            layer, leaf = layer.rsplit('.', 1)
            if layer == 'attn.q':
                key_value = ckpt[f'block{stage + 1}.{index}.attn.kv.{leaf}']
                out[f'{prefix}attn.attn.in_proj_{leaf}'] = torch.cat([value, key_value])
            elif layer != 'attn.kv':
                if layer in ('mlp.fc1', 'mlp.fc2') and leaf == 'weight':
                    value = value[:, :, None, None]
                out[f'{prefix}{renames.get(layer, layer)}.{leaf}'] = value
    return out
