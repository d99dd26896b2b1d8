"""Panoptic quality (arXiv:1801.00868) and the PNG coding of COCO panoptic maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import cpu_count

import numpy as np
from mmengine.logging import print_log as log

from mmdet.errors import UserKeyError, UserValueError
from mmdet.structures.mask import INSTANCE_OFFSET
from mmdet.utils.pictures import read_picture

__all__ = ['INSTANCE_OFFSET', 'PQStat', 'id2rgb', 'panoptic_counts', 'panoptic_quality', 'rgb2id']

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


class PQStat:
    """Counts of panoptic quality by category id: sum of IoUs, true and false positives, false negatives; (4,)."""

    def __init__(self) -> None:
        self.counts: dict[int, np.ndarray] = {}

    def add(self, counts: Mapping[int, np.ndarray]) -> None:
        """Add the counts of each class: true positives, false positives, false negatives, sum of IoU."""
        for category, values in counts.items():
            self.counts[category] = self.counts.get(category, np.zeros(4)) + values

    def __iadd__(self, other: PQStat) -> PQStat:
        self.add(other.counts)
        return self

    def pq_average(self, categories: Mapping[int, dict], isthing: bool | None = None) -> tuple[dict, dict]:
        """``pq``, ``sq`` and ``rq``, from 0 to 1, with ``n``, the number of categories that there are; and by category.

        Args:
            categories: Category by id.
            isthing: Things or stuff alone.
        """
        ids = [i for i, category in categories.items() if isthing is None or bool(category['isthing']) == isthing]
        counts = np.stack([self.counts.get(i, np.zeros(4)) for i in ids]) if ids else np.zeros((0, 4))
        quality = panoptic_quality(counts)
        there = ~np.isnan(quality[:, 0])
        means = quality[there].mean(0) if there.any() else np.zeros(3)
        by_category = {
            i: dict(zip(('pq', 'sq', 'rq'), map(float, values), strict=True))
            for i, values in zip(ids, np.nan_to_num(quality), strict=True)
        }
        return dict(zip(('pq', 'sq', 'rq'), map(float, means), strict=True), n=int(there.sum())), by_category


def pq_compute_single_core(
    proc_id: int,
    annotation_set: Sequence[tuple[dict, dict]],
    gt_folder: str,
    pred_folder: str,
    categories: Mapping[int, dict],
    backend_args: dict | None = None,
    print_log: bool = False,
) -> PQStat:
    """Count the matches of pairs of a true and a predicted annotation in COCO's panoptic format.

    Args:
        proc_id: Number of the process, for the log.
        gt_folder, pred_folder: Folders of their PNG files.
        categories: Category by id.
        backend_args: How the true PNG files are read; the predicted ones are local.

    Raises:
        UserKeyError: a segment has a category that is not in ``categories``.
    """
    stat = PQStat()
    for index, (truth, pred) in enumerate(annotation_set):
        if print_log and index % 100 == 0:
            log(f'process {proc_id}: {index} of {len(annotation_set)} images', logger='current')
        true_map, true_segments = _read_segments(truth, gt_folder, categories, backend_args)
        pred_map, pred_segments = _read_segments(pred, pred_folder, categories, None)
        crowds = {s['id'] for s in truth['segments_info'] if s.get('iscrowd', 0)}
        stat.add(panoptic_counts(true_map, pred_map, true_segments, pred_segments, crowds))
    return stat


def _read_segments(
    annotation: dict, folder: str, categories: Mapping[int, dict], backend_args: dict | None
) -> tuple[np.ndarray, dict[int, int]]:
    """The map of an annotation and the category of each of its segments."""
    segments = {s['id']: s['category_id'] for s in annotation['segments_info']}
    unknown = sorted(set(segments.values()) - set(categories))
    if unknown:
        raise UserKeyError(f'{annotation["file_name"]} has segments of the unknown category {unknown[0]}')
    return read_panoptic_map(f'{folder}/{annotation["file_name"]}', backend_args), segments


def pq_compute_multi_core(
    matched_annotations_list: Sequence[tuple[dict, dict]],
    gt_folder: str,
    pred_folder: str,
    categories: Mapping[int, dict],
    backend_args: dict | None = None,
    nproc: int = 32,
) -> PQStat:
    """:func:`pq_compute_single_core` in up to ``nproc`` processes, no more than there are processors."""
    workers = max(min(nproc, cpu_count(), len(matched_annotations_list)), 1)
    parts = [matched_annotations_list[i::workers] for i in range(workers)]
    arguments = [(i, part, gt_folder, pred_folder, categories, backend_args) for i, part in enumerate(parts)]
    if workers == 1:
        return pq_compute_single_core(*arguments[0])
    stat = PQStat()
    # Workers that are told to end do so; a signal may be held by a handler that they inherit.
    with ProcessPoolExecutor(workers) as pool:
        for part in pool.map(pq_compute_single_core, *zip(*arguments)):
            stat += part
    return stat


def read_panoptic_map(path: str, backend_args: dict | None) -> np.ndarray:
    """Segment ids (h, w) of a PNG file."""
    return rgb2id(read_picture(path, backend_args)[..., ::-1])
