"""What the dynamic head (arXiv:2106.08322) does, whatever its parts are called. Letters: B images, C channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dynamic_levels(
    maps: Sequence[Tensor], offset: nn.Module | None, high: nn.Module, mid: nn.Module, low: nn.Module, weigh: Callable
) -> list[Tensor]:
    """Each level as the weighed mean of convolutions of itself and of its neighbours (Eqs. 3 and 4).

    Args:
        maps: ``[(B, C, H, W)]``, finest first.
        offset: Gives offsets and masks of the convolutions at a level, ``(B, 27, H, W)``; None for plain ones.
        high, mid, low: Convolutions of the coarser map, of the map itself and, with stride 2, of the finer one.
        weigh: A view of a level -> its weight.
    """
    outs = []
    for level, feature in enumerate(maps):
        places = {} if offset is None else _places(offset(feature))
        views = [mid(feature, **places)]
        if level > 0:
            views.append(low(maps[level - 1], **places))
        if level < len(maps) - 1:
            coarse = maps[level + 1]
            view = high(coarse, **{name: _front(value, coarse.shape[-2:]) for name, value in places.items()})
            views.append(F.interpolate(view, feature.shape[-2:], mode='bilinear', align_corners=True))
        outs.append(sum(view * weigh(view) for view in views) / len(views))
    return outs


def _places(offset_and_mask: Tensor) -> dict[str, Tensor]:
    return dict(offset=offset_and_mask[:, :18], mask=offset_and_mask[:, 18:].sigmoid())


def _front(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, H, W) -> (B, C, *size), the first numbers in memory.

    The published models were trained with the offsets of the finer level on the coarser one, and their kernel read
    as many numbers as the coarser level has positions.
    """
    height, width = size
    return x.flatten(1)[:, : x.shape[1] * height * width].reshape(x.shape[0], x.shape[1], height, width)


def dynamic_relu(x: Tensor, coefficients: Tensor) -> Tensor:
    """The larger of two lines for each channel, of ``(B, C, H, W)`` and what an image decides, ``(B, 4 * C, 1, 1)`` in
    [0, 1] (arXiv:2003.10027)."""
    slope1, offset1, slope2, offset2 = (coefficients - 0.5).chunk(4, dim=1)
    return torch.maximum(x * (slope1 * 2 + 1) + offset1, x * (slope2 * 2) + offset2)
