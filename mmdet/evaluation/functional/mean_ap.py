"""Average precision of boxes as Pascal VOC, ImageNet and Open Images define it.

Each ``tpfp_*`` function looks at the detections of one class in one image and returns true and false positive flags,
(A, m) for A area ranges and m detections in their given order; a detection that matches an ignored or out-of-range
ground truth is neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmdet.errors import UserValueError

from .class_names import get_classes
from .overlaps import bbox_overlaps

ALL_AREAS = [(None, None)]


def average_precision(recalls: np.ndarray, precisions: np.ndarray, mode: str = 'area') -> float | np.ndarray:
    """AP of precision-recall curves, each (n,) or (curves, n) in order of falling score.

    ``area`` integrates the curve after precision is made monotonic (VOC 2010 on); ``11points`` averages the best
    precision at recall 0, 0.1, ..., 1 or more (VOC 2007).
    """
    single = np.ndim(recalls) == 1
    recalls, precisions = np.atleast_2d(recalls), np.atleast_2d(precisions)
    if recalls.shape != precisions.shape or recalls.ndim != 2:
        raise UserValueError(f'recalls and precisions differ in shape: {recalls.shape} and {precisions.shape}.')
    if mode == 'area':
        zeros, ones = np.zeros((len(recalls), 1)), np.ones((len(recalls), 1))
        recall = np.concatenate([zeros, recalls, ones], 1)
        precision = np.concatenate([zeros, precisions, zeros], 1)
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        ap = (np.diff(recall, axis=1) * precision[:, 1:]).sum(1)
    elif mode == '11points':
        reached = recalls[:, None] >= np.arange(0, 1 + 1e-3, 0.1)[:, None]  # (curves, 11, n)
        ap = np.where(reached, precisions[:, None], 0).max(2, initial=0).mean(1)
    else:
        raise UserValueError(f"mode must be 'area' or '11points', got {mode!r}.")
    ap = ap.astype(np.float32)
    return ap[0] if single else ap


def _areas(boxes: np.ndarray, extra: float) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0] + extra) * (boxes[:, 3] - boxes[:, 1] + extra)


def _outside(areas: np.ndarray, area_range: tuple) -> np.ndarray:
    low, high = area_range
    return np.zeros(len(areas), dtype=bool) if low is None else (areas < low) | (areas >= high)


def _first_of_each(groups: np.ndarray) -> np.ndarray:
    """Mark the first member of each group."""
    first = np.zeros(len(groups), dtype=bool)
    first[np.unique(groups, return_index=True)[1]] = True
    return first


def _join(gt_bboxes: np.ndarray, gt_bboxes_ignore: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    ignored = np.zeros((0, 4)) if gt_bboxes_ignore is None else gt_bboxes_ignore
    boxes = np.concatenate([np.asarray(gt_bboxes).reshape(-1, 4), np.asarray(ignored).reshape(-1, 4)])
    return boxes, np.arange(len(boxes)) >= len(gt_bboxes)


class _Flags:
    """Which detections are true and false positives, ``tp`` and ``fp`` (A, m), by area range, with nothing matched yet.

    ``boxes`` are the ground truths and then the ignored ones; ``outside`` says of each range which detections are out.
    """

    def __init__(
        self,
        det_bboxes: np.ndarray,
        gt_bboxes: np.ndarray,
        gt_bboxes_ignore: np.ndarray | None,
        area_ranges: Sequence[tuple] | None,
        use_legacy_coordinate: bool,
    ) -> None:
        self.extra = 1.0 if use_legacy_coordinate else 0.0
        self.ranges = ALL_AREAS if area_ranges is None else area_ranges
        self.boxes, self.ignored = _join(gt_bboxes, gt_bboxes_ignore)
        self.outside = [_outside(_areas(det_bboxes, self.extra), area_range) for area_range in self.ranges]
        self.tp = np.zeros((len(self.ranges), len(det_bboxes)), dtype=np.float32)
        self.fp = np.zeros_like(self.tp)
        self.one_sided = not len(self.boxes) or not len(det_bboxes)

    def of_one_side(self) -> tuple[np.ndarray, np.ndarray]:
        """The flags where there are no ground truths, or no detections."""
        return self.tp, (~np.array(self.outside)).astype(np.float32).reshape(self.fp.shape)

    def skipped(self, index: int) -> np.ndarray:
        """The ground truths that do not count in one area range."""
        return self.ignored | _outside(_areas(self.boxes, self.extra), self.ranges[index])


def tpfp_default(
    det_bboxes: np.ndarray,
    gt_bboxes: np.ndarray,
    gt_bboxes_ignore: np.ndarray | None = None,
    iou_thr: float = 0.5,
    area_ranges: Sequence[tuple] | None = None,
    use_legacy_coordinate: bool = False,
    **kwargs: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Pascal VOC: each detection belongs to the ground truth it overlaps most; the best scored of them is right.

    Args:
        det_bboxes: (m, 5) xyxy and score.
        gt_bboxes: (n, 4).
        gt_bboxes_ignore: (k, 4) "difficult" boxes.
    """
    flags = _Flags(det_bboxes, gt_bboxes, gt_bboxes_ignore, area_ranges, use_legacy_coordinate)
    if flags.one_sided:
        return flags.of_one_side()
    ious = bbox_overlaps(det_bboxes[:, :4], flags.boxes, use_legacy_coordinate=use_legacy_coordinate)
    owner, hit = ious.argmax(1), ious.max(1) >= iou_thr
    order = np.argsort(-det_bboxes[:, -1], kind='stable')
    for a in range(len(flags.ranges)):
        scored = ~flags.skipped(a)[owner]
        contenders = order[(hit & scored)[order]]
        first = _first_of_each(owner[contenders])
        flags.tp[a, contenders[first]] = 1
        flags.fp[a, contenders[~first]] = 1
        flags.fp[a, ~hit & ~flags.outside[a]] = 1
    return flags.tp, flags.fp


def tpfp_imagenet(
    det_bboxes: np.ndarray,
    gt_bboxes: np.ndarray,
    gt_bboxes_ignore: np.ndarray | None = None,
    default_iou_thr: float = 0.5,
    area_ranges: Sequence[tuple] | None = None,
    use_legacy_coordinate: bool = False,
    **kwargs: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """ImageNet: small objects need less overlap, and a detection takes the best ground truth that is still free."""
    flags = _Flags(det_bboxes, gt_bboxes, gt_bboxes_ignore, area_ranges, use_legacy_coordinate)
    if flags.one_sided:
        return flags.of_one_side()
    boxes, extra = flags.boxes, flags.extra
    ious = bbox_overlaps(det_bboxes[:, :4], boxes - 1, use_legacy_coordinate=use_legacy_coordinate)
    width, height = boxes[:, 2] - boxes[:, 0] + extra, boxes[:, 3] - boxes[:, 1] + extra
    needed = np.minimum(width * height / ((width + 10.0) * (height + 10.0)), default_iou_thr)
    for a in range(len(flags.ranges)):
        skipped = flags.skipped(a)
        free = np.ones(len(boxes), dtype=bool)
        for i in np.argsort(-det_bboxes[:, -1], kind='stable'):
            candidates = np.where((ious[i] >= needed) & free, ious[i], -1.0)
            best = int(candidates.argmax())
            if candidates[best] >= 0:
                free[best] = False
                flags.tp[a, i] = not skipped[best]
            else:
                flags.fp[a, i] = not flags.outside[a][i]
    return flags.tp, flags.fp


def tpfp_openimages(
    det_bboxes: np.ndarray,
    gt_bboxes: np.ndarray,
    gt_bboxes_ignore: np.ndarray | None = None,
    iou_thr: float = 0.5,
    area_ranges: Sequence[tuple] | None = None,
    use_legacy_coordinate: bool = False,
    gt_bboxes_group_of: np.ndarray | None = None,
    use_group_of: bool = True,
    ioa_thr: float = 0.5,
    **kwargs: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Open Images: as VOC, but of all detections inside one group-of box only the best scored counts.

    Returns:
        True and false positive flags, (A, m') each, and the detections (m', 5) that they belong to: those of no group,
        then the best of each group.
    """
    boxes, ignored = _join(gt_bboxes, gt_bboxes_ignore)
    group = np.zeros(len(boxes), dtype=bool)
    if use_group_of and gt_bboxes_group_of is not None:
        group = np.asarray(gt_bboxes_group_of, dtype=bool)
    if not group.any():
        rest = tpfp_default(
            det_bboxes, gt_bboxes, gt_bboxes_ignore, iou_thr, area_ranges, use_legacy_coordinate=use_legacy_coordinate
        )
        return (*rest, det_bboxes)
    single = ~group
    tp, fp = tpfp_default(
        det_bboxes,
        boxes[single & ~ignored],
        boxes[single & ignored],
        iou_thr,
        area_ranges,
        use_legacy_coordinate=use_legacy_coordinate,
    )
    covered = bbox_overlaps(det_bboxes[:, :4], boxes[group], mode='iof', use_legacy_coordinate=use_legacy_coordinate)
    owner = covered.argmax(1)
    ious = bbox_overlaps(det_bboxes[:, :4], boxes[single], use_legacy_coordinate=use_legacy_coordinate)
    alone = ious.max(1, initial=-1) >= iou_thr
    grouped = ~alone & (covered.max(1, initial=-1) >= ioa_thr)
    order = np.argsort(-det_bboxes[:, -1], kind='stable')
    members = order[grouped[order]]
    best = members[_first_of_each(owner[members])]
    right = np.ones((len(tp), len(best)), dtype=np.float32)
    keep = ~grouped
    dets = np.concatenate([det_bboxes[keep], det_bboxes[best]])
    return np.concatenate([tp[:, keep], right], 1), np.concatenate([fp[:, keep], 0 * right], 1), dets


def get_cls_results(det_results: Sequence, annotations: Sequence[dict], class_id: int) -> tuple[list, list, list]:
    """Detections, ground truths and ignored ground truths of one class, image by image."""
    dets = [image[class_id] for image in det_results]
    gts, ignored = [], []
    for annotation in annotations:
        gts.append(annotation['bboxes'][annotation['labels'] == class_id])
        if annotation.get('labels_ignore') is not None:
            ignored.append(annotation['bboxes_ignore'][annotation['labels_ignore'] == class_id])
        else:
            ignored.append(np.empty((0, 4), dtype=np.float32))
    return dets, gts, ignored


def get_cls_group_ofs(annotations: Sequence[dict], class_id: int) -> list[np.ndarray]:
    """Group-of flags of the ground truths of one class, image by image."""
    flags = []
    for annotation in annotations:
        group = annotation.get('gt_is_group_ofs')
        flags.append(np.empty(0, dtype=bool) if group is None else group[annotation['labels'] == class_id])
    return flags


def eval_map(
    det_results: Sequence,
    annotations: Sequence[dict],
    scale_ranges: Sequence[tuple] | None = None,
    iou_thr: float = 0.5,
    ioa_thr: float | None = None,
    dataset: str | Sequence[str] | None = None,
    logger: Any = None,
    tpfp_fn: Callable | None = None,
    nproc: int = 4,
    use_legacy_coordinate: bool = False,
    use_group_of: bool = False,
    eval_mode: str = 'area',
) -> tuple[Any, list[dict]]:
    """Mean AP over the classes that have ground truth.

    Args:
        det_results: ``[image][class]`` arrays (m, 5) of xyxy and score.
        annotations: For each image ``bboxes`` (n, 4), ``labels`` (n,) and, if any, ``bboxes_ignore`` and
            ``labels_ignore``.
        scale_ranges: ``(low, high)`` object sizes in pixels; one mean AP is given for each.
        ioa_thr: For Open Images, the part of a detection that has to lie inside a group-of box.
        dataset: Name of a dataset or its class names, for the table. ``det`` and ``vid`` evaluate as ImageNet does.
        nproc: Accepted for compatibility; one process is enough without a loop over detections.

    Returns:
        The mean AP (a list with ``scale_ranges``) and for each class ``num_gts``, ``num_dets``, ``recall``,
        ``precision`` and ``ap``.
    """
    if len(det_results) != len(annotations):
        raise UserValueError(f'{len(det_results)} images with detections, but {len(annotations)} with annotations.')
    extra = 1.0 if use_legacy_coordinate else 0.0
    ranges = None if scale_ranges is None else [(low**2, high**2) for low, high in scale_ranges]
    if tpfp_fn is None:
        tpfp_fn = tpfp_imagenet if dataset in ('det', 'vid') else tpfp_openimages if use_group_of else tpfp_default
    eval_results = []
    for c in range(len(det_results[0]) if det_results else 0):
        dets, gts, ignored = get_cls_results(det_results, annotations, c)
        groups = get_cls_group_ofs(annotations, c) if use_group_of else [None] * len(gts)
        flags = []
        some = [bool(len(det) or len(gt) or len(no)) for det, gt, no in zip(dets, gts, ignored, strict=True)]
        some[0] = some[0] or not any(some)  # one image at least, so that there is an array of no detections
        dets, gts, ignored, groups = ([x for x, use in zip(xs, some) if use] for xs in (dets, gts, ignored, groups))
        for i, (det, gt, ignore, group) in enumerate(zip(dets, gts, ignored, groups, strict=True)):
            extras: dict[str, Any] = (
                dict(gt_bboxes_group_of=group, use_group_of=True, ioa_thr=ioa_thr) if use_group_of else {}
            )
            result: tuple = tpfp_fn(
                det, gt, ignore, iou_thr, ranges, use_legacy_coordinate=use_legacy_coordinate, **extras
            )
            if len(result) == 3:  # Open Images drops detections
                dets[i] = result[2]
            flags.append(result[:2])
        num_gts: Any = np.zeros(len(ranges or ALL_AREAS), dtype=int)
        for gt in gts:
            num_gts += [int((~_outside(_areas(gt, extra), r)).sum()) for r in ranges or ALL_AREAS]
        stacked = np.concatenate(dets)
        order = np.argsort(-stacked[:, -1], kind='stable')
        tp, fp = (np.cumsum(np.concatenate(flag, 1)[:, order], 1) for flag in zip(*flags, strict=True))
        eps = np.finfo(np.float32).eps
        recall = tp / np.maximum(num_gts[:, None], eps)
        precision = tp / np.maximum(tp + fp, eps)
        if scale_ranges is None:
            recall, precision, num_gts = recall[0], precision[0], int(num_gts[0])
        ap = average_precision(recall, precision, eval_mode)
        eval_results.append(dict(num_gts=num_gts, num_dets=len(stacked), recall=recall, precision=precision, ap=ap))
    mean_ap: float | list[float]
    if scale_ranges is None:
        aps = [result['ap'] for result in eval_results if result['num_gts'] > 0]
        mean_ap = float(np.mean(aps)) if aps else 0.0
    else:
        table, counts = (np.array([result[key] for result in eval_results]) for key in ('ap', 'num_gts'))
        mean_ap = [float(a[n > 0].mean()) if (n > 0).any() else 0.0 for a, n in zip(table.T, counts.T, strict=True)]
    print_map_summary(mean_ap, eval_results, dataset, ranges, logger=logger)
    return mean_ap, eval_results


def print_map_summary(
    mean_ap: float | Sequence[float],
    results: Sequence[dict],
    dataset: str | Sequence[str] | None = None,
    scale_ranges: Sequence[tuple] | None = None,
    logger: Any = None,
) -> None:
    """Print a table of ground truths, detections, recall and AP of each class; ``logger='silent'`` prints nothing."""
    if logger == 'silent':
        return
    from terminaltables import AsciiTable

    names = [str(c) for c in range(len(results))]
    if dataset is not None:
        names = get_classes(dataset) if isinstance(dataset, str) else list(dataset)
    for s, value in enumerate(mean_ap if isinstance(mean_ap, Sequence) else [mean_ap]):
        rows = [['class', 'gts', 'dets', 'recall', 'ap']]
        for name, result in zip(names, results, strict=False):
            recall = np.atleast_2d(result['recall'])[s]
            rows.append(
                [
                    name,
                    np.atleast_1d(result['num_gts'])[s],
                    result['num_dets'],
                    f'{recall[-1] if recall.size else 0:.3f}',
                    f'{np.atleast_1d(result["ap"])[s]:.3f}',
                ]
            )
        rows.append(['mAP', '', '', '', f'{value:.3f}'])
        table = AsciiTable(rows)
        table.inner_footing_row_border = True
        if scale_ranges is not None:
            print_log(f'Object area {scale_ranges[s]}', logger=logger)
        print_log('\n' + table.table, logger=logger)
