"""Which cells of feature maps are padding. Letters: B images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import constant


def padded_cells(maps: Sequence[Tensor], metas: Sequence[dict]) -> list[Tensor] | None:
    """``[(B, H, W)]`` True at cells of padding, of maps ``[(B, C, H, W)]``; None where no image is padded."""
    if not metas:
        return None
    padded = tuple(metas[0]['batch_input_shape'])
    shapes = [tuple(meta['img_shape'][:2]) for meta in metas]
    if all(shape == padded for shape in shapes):
        return None
    ends = constant(shapes, maps[0].float())  # (B, 2)
    # A pixel is padding if its row or its column is; each axis is thinned out by itself, to the nearest pixel.
    beyond = [
        (torch.arange(size, device=ends.device) >= end[:, None]).float()[:, None]
        for size, end in zip(padded, ends.unbind(1))
    ]
    masks = []
    for level in maps:
        rows, columns = (F.interpolate(axis, size=n)[:, 0].bool() for axis, n in zip(beyond, level.shape[-2:]))
        masks.append(rows[:, :, None] | columns[:, None])
    return masks
