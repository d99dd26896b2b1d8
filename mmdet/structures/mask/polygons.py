"""Areas and clipping of polygons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmdet.errors import UserValueError

from .validation import FARTHEST


def polygon_area(polygon: np.ndarray) -> float:
    """Shoelace formula, moved to the first point so that float32 keeps its digits."""
    x, y = (polygon.reshape(-1, 2) - polygon[:2]).T
    return 0.5 * float(np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def clip_polygon(points: np.ndarray, width: float, height: float) -> np.ndarray:
    """Sutherland-Hodgman: cut (K, 2) points at the four sides of [0, width] x [0, height]."""
    for axis, bound, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        depth = (points[:, axis] - bound) * sign  # >= 0 inside
        kept = []
        for i in range(len(points)):
            before, here = depth[i - 1], depth[i]
            if (before < 0) != (here < 0):
                kept.append(points[i - 1] + (points[i] - points[i - 1]) * (before / (before - here)))
            if here >= 0:
                kept.append(points[i])
        points = np.array(kept).reshape(-1, 2)
    return points


def drawable(polygons: Sequence[np.ndarray], height: int, width: int) -> list[np.ndarray]:
    """Polygons that code in C can draw; those whose outline would take all memory are cut to the image.

    Raises:
        UserValueError: if a coordinate is no finite number.
    """
    near = []
    for polygon in polygons:
        if not np.isfinite(polygon).all():
            raise UserValueError('a polygon has a coordinate that is no finite number')
        if len(polygon) >= 6 and np.abs(polygon).max() > FARTHEST:
            polygon = clip_polygon(polygon.reshape(-1, 2).astype(np.float64), width, height).reshape(-1)
        if len(polygon) >= 6:
            near.append(polygon)
    return near
