"""The numbers of CrowdHuman (arXiv:1805.00123, Sec. 4): AP, log-average miss rate and Jaccard index.

Letters: M detections and N objects of one picture, K detections of all pictures. Boxes are xyxy.
"""

from __future__ import annotations

import numpy as np

from .overlaps import bbox_overlaps

MISS_RATE_POINTS = {
    'CALTECH_-2': (0.0100, 0.0178, 0.0316, 0.0562, 0.1000, 0.1778, 0.3162, 0.5623, 1.0000),
    'CALTECH_-4': (0.0001, 0.0003, 0.0010, 0.0032, 0.0100, 0.0316, 0.1000, 0.3162, 1.0000),
}
"""False alarms for each picture at which the miss rate is read: from 10^-2 (Dollar et al.) or 10^-4 (Zhang et al.)."""
EPS = 1e-6


def match_caltech(
    boxes: np.ndarray, scores: np.ndarray, objects: np.ndarray, ignored: np.ndarray, iou_thr: float
) -> np.ndarray:
    """``(M,)``: 1 for a detection that finds an object, 0 for a false alarm, -1 for one that does not count.

    The best first, each takes the free object that it overlaps most, by more than ``iou_thr``. Without one it does not
    count where an ignored region covers more than that of it.
    """
    overlaps = bbox_overlaps(boxes, objects)
    covered = np.any(bbox_overlaps(boxes, ignored, mode='iof') > iou_thr, axis=1)
    flags = np.where(covered, -1, 0)
    free = np.ones(len(objects), dtype=bool)
    hits = np.any(overlaps > iou_thr, axis=1)
    for i in np.argsort(-scores, kind='stable'):
        if hits[i]:
            row = np.where(free, overlaps[i], -1)
            best = row.argmax()
            if row[best] > iou_thr:
                flags[i], free[best] = 1, False
    return flags


def match_voc(
    boxes: np.ndarray, scores: np.ndarray, objects: np.ndarray, ignored: np.ndarray, iou_thr: float
) -> np.ndarray:
    """As :func:`match_caltech`, but a detection belongs to the object or ignored region of the highest IoU: the second
    one on an object is a false alarm."""
    overlaps = bbox_overlaps(boxes, np.concatenate([objects, ignored]))
    flags, taken = np.zeros(len(boxes), dtype=int), set()
    if not overlaps.size:
        return flags
    best = overlaps.argmax(1)
    for i in np.argsort(-scores, kind='stable'):
        if overlaps[i, best[i]] > iou_thr:
            if best[i] >= len(objects):
                flags[i] = -1
            elif best[i] not in taken:
                flags[i] = 1
                taken.add(best[i])
    return flags


def average_precision(right: np.ndarray, num_objects: int) -> float:
    """Area below precision over recall, point by point and by trapezoids; ``right (K,)`` is in the order of scores."""
    found = np.cumsum(right)
    recall, precision = found / num_objects, found / np.arange(1, len(found) + 1)
    return float(((precision[1:] + precision[:-1]) / 2 * np.diff(recall)).sum())


def log_average_miss_rate(right: np.ndarray, num_objects: int, num_images: int, points: tuple[float, ...]) -> float:
    """Geometric mean of the miss rates where so many false alarms for each picture are reached, or at the end."""
    if not len(right):
        return 1.0
    false_alarms = np.cumsum(~right.astype(bool)) / num_images
    missed = 1 - np.cumsum(right) / num_objects
    places = np.minimum(np.searchsorted(false_alarms, points), len(right) - 1)
    with np.errstate(divide='ignore'):  # nothing missed anywhere: 0
        return float(np.exp(np.log(missed[places]).mean()))


def most_pairs(boxes: np.ndarray, objects: np.ndarray, iou_thr: float) -> np.ndarray:
    """``(k, 2)`` detections and objects of a greatest set of pairs that overlap by ``iou_thr`` or more."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not len(boxes) or not len(objects):
        return np.zeros((0, 2), dtype=int)
    partner = maximum_bipartite_matching(csr_matrix(bbox_overlaps(boxes, objects) >= iou_thr), perm_type='column')
    rows = np.flatnonzero(partner >= 0)
    return np.stack([rows, partner[rows]], 1)


def jaccard_index(boxes: np.ndarray, objects: np.ndarray, ignored: np.ndarray, iou_thr: float) -> dict[str, float]:
    """``ratio``: pairs ``k`` over pairs and unpaired detections and objects. These are ``n`` and ``m`` in all, of which
    those without a partner do not count where an ignored region covers more than ``iou_thr`` of them."""
    pairs = most_pairs(boxes, objects, iou_thr)
    alone, missed = np.delete(boxes, pairs[:, 0], 0), np.delete(objects, pairs[:, 1], 0)
    k, m, n = len(pairs), len(objects), len(boxes)
    n -= num_covered(alone, ignored, iou_thr)
    m -= num_covered(missed, ignored, iou_thr)
    cover = k / (n + EPS)
    return dict(ratio=k / (m + n - k + EPS), recall=k / (m + EPS), cover=cover, noise=1 - cover, k=k, m=m, n=n)


def num_covered(boxes: np.ndarray, ignored: np.ndarray, iou_thr: float) -> int:
    """How many boxes an ignored region covers by more than ``iou_thr`` of them."""
    return int((bbox_overlaps(boxes, ignored, mode='iof') > iou_thr).any(1).sum())
