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


def mask2bbox(masks: Tensor) -> Tensor:
    """(N, h, w) masks -> (N, 4) boxes around them, zeros for an empty mask."""
    columns, rows = masks.bool().any(dim=1), masks.bool().any(dim=2)
    boxes = masks.new_zeros((len(masks), 4), dtype=torch.float32)
    if masks.numel() == 0:
        return boxes
    for start, end, line in ((0, 2, columns), (1, 3, rows)):
        found = line.any(1)
        size = line.shape[1]
        boxes[:, start] = line.int().argmax(1) * found
        boxes[:, end] = (size - line.flip(1).int().argmax(1)) * found
    return boxes
