"""Masks as RLE, as boxes and as polygons."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.utils import slice_list
from torch import Tensor

INSTANCE_OFFSET = 1000
"""A panoptic segment's id is ``label + instance * INSTANCE_OFFSET``."""


def split_combined_polys(
    polys: list[np.ndarray], poly_lens: list[list[int]], polys_per_mask: list[list[int]]
) -> list[list[list[np.ndarray]]]:
    """Undo the flattening of polygons into one array per image.

    Args:
        polys: One flat array per image.
        poly_lens: Length of every polygon of each image.
        polys_per_mask: Number of polygons of every object of each image.
    """
    return [
        slice_list(slice_list(flat, lens), counts)
        for flat, lens, counts in zip(polys, poly_lens, polys_per_mask, strict=True)
    ]


def encode_mask_results(mask_results: Tensor | np.ndarray | list) -> list[dict[str, Any]]:
    """(N, h, w) masks -> COCO run-length codes."""
    from pycocotools import mask as coco_mask

    if isinstance(mask_results, Tensor):
        mask_results = mask_results.detach().cpu().numpy()
    return [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in mask_results]


def encode_window(window: np.ndarray, x: int, y: int, shape: tuple[int, int]) -> dict[str, Any]:
    """COCO run-length code of a mask of ``shape`` (H, W): ``window`` (h, w) at column x and row y, and nothing else."""
    from pycocotools import mask as coco_mask

    height, width = shape
    columns, rows = np.nonzero(window.T)  # by column, as the code counts
    pixels = (columns + x) * height + rows + y
    if not len(pixels):
        return coco_mask.frPyObjects({'counts': [height * width], 'size': [height, width]}, height, width)
    breaks = np.flatnonzero(np.diff(pixels) != 1)
    first, last = pixels[np.r_[0, breaks + 1]], pixels[np.r_[breaks, -1]]
    ends = np.stack([first, last + 1], 1).reshape(-1)
    counts = np.diff(np.r_[0, ends, height * width])
    return coco_mask.frPyObjects({'counts': counts.tolist(), 'size': [height, width]}, height, width)


def bitmaps_of(masks: Any) -> np.ndarray:
    """(n, h, w) array of a tensor, an array, a container of masks, or a list of run-length codes."""
    if isinstance(masks, list) and masks and isinstance(masks[0], dict):
        from pycocotools import mask as coco_mask

        from .validation import check_codes, compressed

        check_codes(masks, 'these masks')
        return coco_mask.decode([compressed(mask) for mask in masks]).transpose(2, 0, 1)
    if isinstance(masks, Tensor):
        return masks.detach().cpu().numpy()
    return masks.to_ndarray() if hasattr(masks, 'to_ndarray') else np.asarray(masks)


def mask2bbox(masks: Tensor) -> Tensor:
    """(..., h, w) masks -> (..., 4) boxes around them, zeros for an empty mask."""
    if masks.numel() == 0:
        return masks.new_zeros((*masks.shape[:-2], 4), dtype=torch.float32)
    lows, highs = [], []
    for dim in (-2, -1):
        line = masks.bool().any(dim)  # columns, then rows
        place = torch.arange(line.shape[-1], device=masks.device)
        highs.append(torch.where(line, place + 1, 0).amax(-1))
        lows.append(torch.where(line, place, line.shape[-1]).amin(-1).minimum(highs[-1]))
    return torch.stack([*lows, *highs], -1).float()
