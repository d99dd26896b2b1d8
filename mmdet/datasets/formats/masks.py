"""Masks of other formats as COCO's run-length codes, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmdet.structures.mask.validation import compressed


def code_of_bitmap(window: np.ndarray, left: int, top: int, shape: tuple[int, int]) -> dict[str, Any]:
    """The code of a picture of ``shape`` (height, width) that is empty but for a window; what hangs over is cut."""
    from pycocotools import mask as coco_mask

    canvas = np.zeros(shape, dtype=np.uint8, order='F')
    y1, x1 = max(top, 0), max(left, 0)
    y2, x2 = min(top + window.shape[0], shape[0]), min(left + window.shape[1], shape[1])
    if y2 > y1 and x2 > x1:
        canvas[y1:y2, x1:x2] = window[y1 - top : y2 - top, x1 - left : x2 - left]
    code = coco_mask.encode(canvas)
    return dict(size=list(shape), counts=code['counts'].decode())


def bitmap_of(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) of 0 and 1 for a COCO segmentation of a picture of ``shape``."""
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, dict):
        return coco_mask.decode(compressed(segmentation))
    codes = coco_mask.frPyObjects([[float(value) for value in part] for part in segmentation], *shape)
    return coco_mask.decode(coco_mask.merge(codes))


def polygons_of(segmentation: Any, shape: tuple[int, int]) -> list[list[float]]:
    """The polygons of a segmentation; those around a bitmap run through the centres of its border pixels."""
    if not isinstance(segmentation, dict):
        return [list(map(float, part)) for part in segmentation]
    import cv2

    contours = cv2.findContours(bitmap_of(segmentation, shape), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    return [contour.reshape(-1).astype(float).tolist() for contour in contours if len(contour) >= 3]
