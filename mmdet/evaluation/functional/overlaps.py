from __future__ import annotations

import numpy as np

from mmdet.errors import UserValueError


def bbox_overlaps(
    bboxes1: np.ndarray,
    bboxes2: np.ndarray,
    mode: str = 'iou',
    eps: float = 1e-6,
    use_legacy_coordinate: bool = False,
) -> np.ndarray:
    """Overlap of every box of the first set with every box of the second, (n, k), in numpy.

    Args:
        bboxes1: (n, 4) xyxy.
        bboxes2: (k, 4) xyxy.
        mode: ``iou``, or ``iof``: the part of each box of ``bboxes1`` that is covered.
        use_legacy_coordinate: A box holds its last pixel row and column: width is ``x2 - x1 + 1``, as in Pascal VOC.
    """
    if mode not in ('iou', 'iof'):
        raise UserValueError(f"mode must be 'iou' or 'iof', got {mode!r}.")
    extra = 1.0 if use_legacy_coordinate else 0.0
    a = np.asarray(bboxes1, dtype=np.float32).reshape(-1, 4)[:, None]
    b = np.asarray(bboxes2, dtype=np.float32).reshape(-1, 4)[None]
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + extra
    overlap = np.maximum(side, 0).prod(-1)
    area_a = (a[..., 2:] - a[..., :2] + extra).prod(-1)
    area_b = (b[..., 2:] - b[..., :2] + extra).prod(-1)
    union = area_a + area_b - overlap if mode == 'iou' else np.broadcast_to(area_a, overlap.shape)
    return overlap / np.maximum(union, eps)
