from __future__ import annotations

from torch import Tensor, nn


class LN2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    _abbr_ = 'ln'

    def forward(self, x: Tensor, data_format: str = 'channel_first') -> Tensor:
        """``(B, C, H, W)``, or ``(B, H, W, C)`` if ``data_format`` is 'channel_last'."""
        if data_format == 'channel_last':
            return super().forward(x)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
