"""Where a cell of a feature map lies, as a vector. Letters: B images, T frames, D channels of one axis."""

from __future__ import annotations

import math

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserTypeError
from mmdet.registry import MODELS

from .transformer.utils import wave_features


@MODELS.register_module()
class SinePositionalEncoding(BaseModule):
    """Sines and cosines of the coordinates of a cell, y before x (DETR, arXiv:2005.12872, Sec. A.4).

    Args:
        num_feats: D; an encoding has 2 * D channels.
        temperature: Ratio of the longest wave to the shortest.
        normalize: Count in parts of the image, of which the whole is ``scale``, not in cells.
        eps: Added to the size of the image.
        offset: Added to the coordinates, which begin at 1, if ``normalize``.
    """

    def __init__(
        self,
        num_feats: int,
        temperature: int = 10000,
        normalize: bool = False,
        scale: float = 2 * math.pi,
        eps: float = 1e-6,
        offset: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if normalize and not isinstance(scale, (float, int)):
            raise UserTypeError(f'scale must be a number where normalize is set, got {scale!r}')
        self.num_feats = num_feats
        self.temperature = temperature
        self.normalize = normalize
        self.scale = scale
        self.eps = eps
        self.offset = offset

    def _waves(self, inside: Tensor, axis: int, num_feats: int) -> Tensor:
        """``(..., num_feats)`` of the place of each cell along ``axis``, counted in cells that are ``inside``."""
        place = inside.cumsum(axis, dtype=torch.float32)
        if self.normalize:
            whole = place.narrow(axis, place.shape[axis] - 1, 1)
            place = (place + self.offset) / (whole + self.eps) * self.scale
        return wave_features(place, num_feats, self.temperature)

    def forward(self, mask: Tensor | None, input: Tensor | None = None) -> Tensor:
        """``(B, 2 * D, H, W)``.

        Args:
            mask: ``(B, H, W)``, nonzero at cells of padding.
            input: ``(B, C, H, W)`` a map whose cells all count, in place of a mask.
        """
        if mask is None:
            if input is None:
                raise UserTypeError('SinePositionalEncoding needs a mask or an input')
            inside = torch.ones_like(input[:, 0], dtype=torch.bool)
        else:
            inside = ~mask.bool()
        waves = [self._waves(inside, axis, self.num_feats) for axis in (1, 2)]
        return torch.cat(waves, -1).permute(0, 3, 1, 2)

    def __repr__(self) -> str:
        names = ('num_feats', 'temperature', 'normalize', 'scale', 'eps')
        return f'{type(self).__name__}({", ".join(f"{name}={getattr(self, name)!r}" for name in names)})'


@MODELS.register_module()
class SinePositionalEncoding3D(SinePositionalEncoding):
    """The same of clips: the encoding of the frame is added to that of y and x."""

    def forward(self, mask: Tensor, input: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """``(B, T, 2 * D, H, W)`` of ``mask (B, T, H, W)``, nonzero at cells of padding."""
        inside = ~mask.bool()
        rows, columns = (self._waves(inside, axis, self.num_feats) for axis in (2, 3))
        frames = self._waves(inside, 1, 2 * self.num_feats)
        return (torch.cat([rows, columns], -1) + frames).permute(0, 1, 4, 2, 3)


@MODELS.register_module()
class LearnedPositionalEncoding(BaseModule):
    """A learned vector for each row and column, x before y.

    Args:
        num_feats: D; an encoding has 2 * D channels.
        row_num_embed, col_num_embed: Rows and columns that a map may have.
    """

    def __init__(
        self,
        num_feats: int,
        row_num_embed: int = 50,
        col_num_embed: int = 50,
        init_cfg: dict | list[dict] | None = dict(type='Uniform', layer='Embedding'),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.row_embed = nn.Embedding(row_num_embed, num_feats)
        self.col_embed = nn.Embedding(col_num_embed, num_feats)
        self.num_feats = num_feats
        self.row_num_embed = row_num_embed
        self.col_num_embed = col_num_embed

    def forward(self, mask: Tensor) -> Tensor:
        """``(B, 2 * D, H, W)`` of ``mask (B, H, W)``, of which only the size counts."""
        height, width = mask.shape[-2:]
        x = self.col_embed.weight[:width].expand(height, -1, -1)
        y = self.row_embed.weight[:height, None].expand(-1, width, -1)
        return torch.cat([x, y], -1).permute(2, 0, 1).repeat(mask.shape[0], 1, 1, 1)

    def __repr__(self) -> str:
        sizes = f'num_feats={self.num_feats}, row_num_embed={self.row_num_embed}, col_num_embed={self.col_num_embed}'
        return f'{type(self).__name__}({sizes})'
