"""The fields of a sample that belong to its instances, moved together by every geometric transform."""

from __future__ import annotations

import numpy as np

INSTANCE_KEYS = ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks', 'gt_keypoints', 'gt_instances_ids')


def select_instances(results: dict, keep: np.ndarray) -> None:
    """Keep the instances where the boolean array ``keep`` is true, in every field."""
    index = np.flatnonzero(keep)
    for key in INSTANCE_KEYS:
        if results.get(key) is not None:
            results[key] = results[key][index]


def set_image(results: dict, img: np.ndarray) -> None:
    """Put an image ``(h, w, 3)`` and its shape into ``results``."""
    results['img'] = img
    results['img_shape'] = img.shape[:2]


def record_homography(results: dict, matrix) -> None:
    """Multiply ``results['homography_matrix']``, which takes points of the loaded image to the current one."""
    matrix = np.asarray(matrix, dtype=np.float32)
    before = results.get('homography_matrix')
    results['homography_matrix'] = matrix if before is None else matrix @ before


def translation(x: float, y: float) -> np.ndarray:
    """The matrix ``(3, 3)`` that shifts by ``x`` and ``y`` pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float32)


def at_least_a_pixel(first: float, second: float) -> tuple[int, int]:
    """Two sides of an image in whole pixels, rounded down, of which none vanishes."""
    return max(1, int(first)), max(1, int(second))


def move_keypoints(results: dict, matrix: np.ndarray) -> None:
    """Apply a homography to ``gt_keypoints`` (N, K, 3: x, y, visibility); what leaves the image is not visible."""
    keypoints = results.get('gt_keypoints')
    if keypoints is None or not len(keypoints):
        return
    points = keypoints[..., :2] @ matrix[:2, :2].T + matrix[:2, 2]
    if not np.array_equal(matrix[2], (0, 0, 1)):
        points /= keypoints[..., :2] @ matrix[2, :2, None] + matrix[2, 2]
    height, width = results['img_shape'][:2]
    inside = ((points >= 0) & (points <= (width, height))).all(-1)
    visible = np.where(inside, keypoints[..., 2], 0)
    results['gt_keypoints'] = np.concatenate([points, visible[..., None]], -1).astype(np.float32)
