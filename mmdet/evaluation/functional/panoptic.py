"""Panoptic quality (arXiv:1801.00868) and the PNG coding of COCO panoptic maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmdet.errors import UserValueError

VOID = 0


def rgb2id(image: np.ndarray) -> np.ndarray:
    """Segment ids (h, w) of an RGB image (h, w, 3): R + 256 G + 256^2 B."""
    image = image.astype(np.int64)
    return image[..., 0] + 256 * image[..., 1] + 256**2 * image[..., 2]


def id2rgb(segments: np.ndarray) -> np.ndarray:
    """The inverse of :func:`rgb2id`, uint8."""
    return np.stack([segments % 256, segments // 256 % 256, segments // 256**2 % 256], -1).astype(np.uint8)


def panoptic_counts(
    truth: np.ndarray,
    pred: np.ndarray,
    truth_categories: Mapping[int, int],
    pred_categories: Mapping[int, int],
    crowds: frozenset[int] | set[int] = frozenset(),
) -> dict[int, np.ndarray]:
    """What one image adds to each category: sum of IoUs, true positives, false positives, false negatives.

    A predicted and a true segment of one category match if their IoU is above 0.5 (Sec. 4.1; there can be only one
    such pair). Pixels that are void in the ground truth count neither way, nor does a segment that lies mostly on void
    and on a crowd of its category.

    Args:
        truth: (h, w) segment ids, 0 for void.
        pred: (h, w), likewise.
        truth_categories: Category of each true segment.
        crowds: Ids of the true segments that are crowds.
    """
    base = int(pred.max(initial=0)) + 1  # a pair of ids as one integer, as sorting pairs takes thirty times as long
    pairs, areas = np.unique(truth.astype(np.int64) * base + pred, return_counts=True)
    overlap = {divmod(pair, base): area for pair, area in zip(pairs.tolist(), areas.tolist(), strict=True)}
    truth_area: dict[int, int] = {}
    pred_area: dict[int, int] = {}
    for (t, p), area in overlap.items():
        truth_area[t] = truth_area.get(t, 0) + area
        pred_area[p] = pred_area.get(p, 0) + area
    unknown = sorted(set(pred_area) - set(pred_categories) - {VOID})
    if unknown:
        raise UserValueError(f'The predicted map has segments without a category: {unknown[:5]}.')
    counts: dict[int, np.ndarray] = {}

    def add(category: int, column: int, value: float) -> None:
        counts.setdefault(category, np.zeros(4))[column] += value

    matched_truth, matched_pred = set(), set()
    for (t, p), area in overlap.items():
        if t not in truth_categories or t in crowds or p not in pred_categories:
            continue
        if truth_categories[t] != pred_categories[p]:
            continue
        iou = area / (truth_area[t] + pred_area[p] - area - overlap.get((VOID, p), 0))
        if iou > 0.5:
            add(truth_categories[t], 0, iou)
            add(truth_categories[t], 1, 1)
            matched_truth.add(t)
            matched_pred.add(p)
    for t, category in truth_categories.items():
        if t not in matched_truth and t not in crowds:
            add(category, 3, 1)
    crowd_of = {truth_categories[t]: t for t in crowds if t in truth_categories}
    for p, category in pred_categories.items():
        if p in matched_pred or p not in pred_area:
            continue
        ignored = overlap.get((VOID, p), 0) + overlap.get((crowd_of.get(category, -1), p), 0)
        if ignored / pred_area[p] <= 0.5:
            add(category, 2, 1)
    return counts


def panoptic_quality(counts: np.ndarray) -> np.ndarray:
    """PQ, SQ and RQ of each category, (K, 3), from its counts (K, 4); NaN where there is nothing of it."""
    iou, tp, fp, fn = counts.T
    total = tp + fp / 2 + fn / 2
    some = np.where(total > 0, total, np.nan)
    matched = np.where(tp > 0, iou / np.maximum(tp, 1), 0.0)
    return np.stack([iou / some, np.where(total > 0, matched, np.nan), tp / some], 1)
