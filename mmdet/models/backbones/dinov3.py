"""DINOv3's vision transformer (arXiv:2508.10104), and the one that DEIMv2 makes of it (arXiv:2509.20787).

Letters: B images, S cells of a picture, H heads, C channels, D of a branch of convolutions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import run_checkpointed
from mmdet.registry import MODELS

from .base import TransformerBackbone
from .vit import Block

RELEASED = [
    (r'^patch_embed\.proj\.', 'patch_embed.'),
    (r'^storage_tokens$', 'registers'),
    (r'\.ls(\d)\.gamma$', r'.gamma\1'),
    (r'\.mlp\.fc1\.', '.mlp.0.'),
    (r'\.mlp\.fc2\.', '.mlp.2.'),
]
THETA = 100.0  # the longest wave of a position, in turns of the shortest


@MODELS.register_module()
class DINOv3(TransformerBackbone):
    """A plain ViT whose queries and keys turn with the place of their cell; all its outputs have the stride of a patch.

    Args:
        num_registers: Tokens that are no cells, after that of the class (arXiv:2309.16588).
        gated: Whether the feed-forward blocks are gated (ViT-S+ and larger ones).
        out_indices: Blocks, counted from 0, whose outputs are wanted; there are none after the last of them.
        norm_outputs: Whether outputs pass a norm.
        rescale: While training, places are stretched by a random factor up to this one; None for never.
    """

    def __init__(
        self,
        embed_dims: int = 384,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        patch_size: int = 16,
        num_registers: int = 4,
        key_bias: bool = False,
        gated: bool = False,
        layer_scale: float = 1.0,
        out_indices: Sequence[int] = (5, 8, 11),
        norm_outputs: bool = True,
        rescale: float | None = 2.0,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not out_indices or min(out_indices) < 0:
            raise UserValueError(f'out_indices must be numbers of blocks, counted from 0, got {tuple(out_indices)}')
        if embed_dims % (num_heads * 4):
            raise UserValueError(f'embed_dims={embed_dims} must be a multiple of 4 * num_heads={4 * num_heads}')
        if rescale is not None and rescale < 1:
            raise UserValueError(f'rescale must be at least 1, or None, got {rescale}')
        self.embed_dims = embed_dims
        self.patch_size = patch_size
        self.out_indices = tuple(out_indices)
        self.rescale = rescale
        self.with_cp = with_cp
        self.head_dims = embed_dims // num_heads
        self.patch_embed = nn.Conv2d(3, embed_dims, patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.registers = nn.Parameter(torch.zeros(1, num_registers, embed_dims))
        depth = max(out_indices) + 1
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        shared = (embed_dims, num_heads, mlp_ratio, key_bias, layer_scale)
        self.blocks = nn.ModuleList([Block(*shared, rate, norm_eps=1e-5, gated=gated) for rate in rates])
        self.norm = nn.LayerNorm(embed_dims, 1e-5) if norm_outputs else nn.Identity()

    def _init_from_scratch(self) -> None:
        super()._init_from_scratch()
        for tokens in (self.cls_token, self.registers):
            trunc_normal_(tokens, std=0.02)

    def _own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the releases of DINOv3, which mask the bias of the keys."""
        named = {}
        for name, value in state.items():
            if name in ('mask_token', 'rope_embed.periods') or name.endswith('bias_mask'):
                continue
            for pattern, replacement in RELEASED:
                name = re.sub(pattern, replacement, name)
            if name.endswith('.attn.qkv.bias') and name not in self.state_dict():
                query, _, value_bias = value.chunk(3)
                prefix = name.removesuffix('qkv.bias')
                named.update({f'{prefix}q_bias': query, f'{prefix}v_bias': value_bias})
            else:
                named[name] = value
        for name in [name for name in named if name.endswith(('.mlp.w1.weight', '.mlp.w1.bias'))]:
            both = [named.pop(name.replace('.w1.', f'.w{part}.')) for part in (1, 2)]
            named[name.replace('.w1.', '.w12.')] = torch.cat(both)
        return named

    def _turns(self, height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """``(S, C / H)`` cosines and sines of the cells: by their y, by their x, and both again."""
        options = dict(dtype=torch.float32, device=like.device)
        waves = THETA ** -torch.arange(0, 1, 4 / self.head_dims, **options)
        y, x = (((torch.arange(size, **options) + 0.5) / size * 2 - 1) for size in (height, width))
        places = torch.stack([y[:, None].expand(-1, width), x.expand(height, -1)], -1).flatten(0, 1)
        if self.training and self.rescale is not None:
            places = places * self.rescale ** (torch.rand(1, **options) * 2 - 1)
        angles = (2 * math.pi * places[..., None] * waves).flatten(1).tile(2)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` -> maps of ``out_indices``, ``(B, C, H / patch, W / patch)`` each."""
        if x.shape[2] % self.patch_size or x.shape[3] % self.patch_size:
            raise UserValueError(
                f'{type(self).__name__} takes pictures whose sides are multiples of patch_size={self.patch_size}, '
                f'got {x.shape[2]}x{x.shape[3]}'
            )
        cells = self.patch_embed(x)
        batch, size = cells.shape[0], cells.shape[-2:]
        turns = self._turns(*size, cells)
        others = torch.cat([self.cls_token, self.registers], 1).expand(batch, -1, -1)
        tokens = torch.cat([others, cells.flatten(2).transpose(1, 2)], 1)
        outs = []
        for index, block in enumerate(self.blocks):
            tokens = run_checkpointed(lambda t, block=block: block(t, batch, turns), tokens, self.with_cp)
            if index in self.out_indices:
                cells = self.norm(tokens)[:, others.shape[1] :]
                outs.append(cells.transpose(1, 2).unflatten(2, size))
        return tuple(outs)


class DetailBranch(BaseModule):
    """Convolutions down to strides of 8, 16 and 32, beside a transformer that sees patches alone (Sec. 3, "STA").

    Args:
        channels: D; the maps have 2, 4 and 4 times as many.
    """

    def __init__(self, channels: int, norm_cfg: dict = dict(type='BN')) -> None:
        super().__init__()
        halve = dict(stride=2, padding=1, norm_cfg=norm_cfg)
        self.stem = ConvModule(3, channels, 3, act_cfg=dict(type='GELU'), **halve)
        widths = [channels, 2 * channels, 4 * channels, 4 * channels]
        self.convs = nn.ModuleList(
            [ConvModule(a, b, 3, act_cfg=None, **halve) for a, b in zip(widths, widths[1:], strict=False)]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` -> ``(B, 2 or 4 * D, H / 8 to 32, W / 8 to 32)``."""
        first, second, third = self.convs
        maps = [first(F.max_pool2d(self.stem(x), 3, 2, 1))]
        maps.append(second(F.gelu(maps[0])))
        return [*maps, third(F.gelu(maps[1]))]


@MODELS.register_module()
class DINOv3STA(TransformerBackbone):
    """Three outputs of a :class:`DINOv3`, brought to strides of 8, 16 and 32, each beside a map of convolutions
    (DEIMv2's "spatial tuning adapter").

    Its maps have the channels of the transformer and 2, 4 and 4 times ``detail_channels``; the neck mixes them.

    Args:
        vit: Arguments of :class:`DINOv3`, which has a patch of 16 and three outputs.
    """

    def __init__(
        self,
        vit: dict = dict(),
        detail_channels: int = 16,
        norm_cfg: dict = dict(type='BN'),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.vit = DINOv3(**{key: value for key, value in vit.items() if key != 'type'})
        if len(self.vit.out_indices) != 3 or self.vit.patch_size != 16:
            raise UserValueError(
                f'vit of DINOv3STA needs three out_indices and patch_size=16, got {self.vit.out_indices} and '
                f'{self.vit.patch_size}'
            )
        self.details = DetailBranch(detail_channels, norm_cfg)

    def init_weights(self) -> None:
        if self.init_cfg is not None:
            super().init_weights()
        else:
            self.vit.init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` of multiples of 32 -> ``(B, C + 2 or 4 * D, H / 8 to 32, W / 8 to 32)``."""
        details = self.details(x)
        return tuple(
            torch.cat([F.interpolate(seen, detail.shape[-2:], mode='bilinear', align_corners=False), detail], 1)
            for seen, detail in zip(self.vit(x), details)
        )
