"""Areas and clipping of polygons."""

from __future__ import annotations

import numpy as np


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
