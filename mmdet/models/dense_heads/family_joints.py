"""The way through methods that research code overrides, of heads whose methods have arguments of their own.

As :mod:`joints`, which has what all heads share.

Letters: B images, P priors of all levels, C classes, D values per prior.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet.models.core import DenseTargets, PaddedGT, Priors, levels_to_images, map_sizes, split_levels, unmap
from mmdet.models.core.gt import box_rows

from .joints import TargetLists, level_targets, priors_as_lists, stack_targets, targets_from_lists


class MetricTargetLists(TargetLists):
    """Targets that unpack as RTMDet's and TOOD's ``get_targets`` do in MMDetection: anchors, labels, label weights, box
    targets and metrics by level, and sampling results where a head has them there."""

    def __iter__(self) -> Iterator[Any]:
        for value in (self.anchors, self.labels, self.label_weights, self.bbox_targets, self.extras['metrics']):
            yield self.by_level(value)
        if 'sampling_results' in self.extras:
            yield self.extras['sampling_results']


def metric_targets(
    head, scores: Tensor, boxes: Tensor, priors: Priors, gt: PaddedGT, metas: list[dict]
) -> DenseTargets:
    """Targets by an own ``get_targets`` of a head whose positives have a metric."""
    lists = priors_as_lists(priors)
    value = head.get_targets(scores, boxes, *lists, list(gt.instances), metas, list(gt.ignored_instances))
    if isinstance(value, DenseTargets):
        return value
    levels = [torch.cat(list(levels), 1) for levels in value[1:5]]
    targets = with_metrics(levels, head.num_classes, priors.level_sizes)
    if len(value) > 5:
        targets.extras['sampling_results'] = value[5]
    return targets


def metric_targets_of_each_image(
    head, scores: Tensor, boxes: Tensor, priors: Priors, gt: PaddedGT, metas: list[dict]
) -> DenseTargets:
    """The same by an own ``_get_targets_single``."""
    singles = []
    for b, image in enumerate(zip(scores, boxes, priors.expanded(), priors.valid)):
        singles.append(head._get_targets_single(*image, gt.instances[b], metas[b], gt.ignored_instances[b]))
    columns = list(zip(*singles))
    targets = with_metrics([torch.stack(column) for column in columns[1:5]], head.num_classes, priors.level_sizes)
    if len(columns) > 5:
        targets.extras['sampling_results'] = list(columns[5])
    return targets


def with_metrics(values: Sequence[Tensor], num_classes: int, level_sizes: list[int] | None = None) -> DenseTargets:
    """Targets of labels, label weights, box targets and metrics, each ``(B, P, ...)``; of one level by default."""
    targets = level_targets(num_classes, *values[:3])
    targets.level_sizes, targets.extras = level_sizes or targets.level_sizes, dict(metrics=values[3])
    return targets


def bags_of_each_image(
    head, scores: Tensor, deltas: Tensor, anchors: Tensor, gt: PaddedGT
) -> tuple[Tensor, Tensor, Tensor]:
    """Box probabilities, bag losses and number of objects by an own ``positive_loss_single`` of FreeAnchor."""
    singles = [head.positive_loss_single(*image) for image in zip(scores, deltas, anchors, gt.instances)]
    box_prob, losses, counts = zip(*singles)
    return torch.stack(box_prob), torch.cat([loss.reshape(-1) for loss in losses]), scores.new_tensor(sum(counts))


def task_targets(
    head, task: str, logits: Tensor, deltas: Tensor, priors: Priors, gt: PaddedGT, metas: list[dict]
) -> DenseTargets:
    """Targets of one task by an own ``get_cls_targets`` or ``get_reg_targets`` of DDOD."""
    lists = list(priors.expanded()), list(priors.valid), [priors.level_sizes] * len(metas), list(logits), list(deltas)
    value = getattr(head, f'get_{task}_targets')(*lists, list(gt.instances), metas, list(gt.ignored_instances))
    return targets_from_lists(value, head.num_classes)


def task_targets_of_each_image(
    head, task: str, logits: Tensor, deltas: Tensor, priors: Priors, gt: PaddedGT, metas: list[dict]
) -> DenseTargets:
    """The same by an own ``_get_targets_single``."""
    singles = []
    for b, image in enumerate(zip(priors.expanded(), priors.valid, logits, deltas)):
        rest = priors.level_sizes, gt.instances[b], metas[b], gt.ignored_instances[b]
        singles.append(head._get_targets_single(*image, *rest, is_cls_assigner=task == 'cls'))
    return stack_targets(singles, head.num_classes, priors.level_sizes, anchors_first=True)


def vfnet_targets(
    head, cls_scores: Sequence[Tensor], priors: Priors, gt_instances: Sequence, metas: list[dict], ignored
) -> DenseTargets:
    """Targets by an own ``get_targets`` of VFNet."""
    levels = split_levels(priors.boxes[0], priors.level_sizes, 0)
    labels, weights, distances, _ = head.get_targets(cls_scores, levels, gt_instances, metas, ignored)
    joined = lambda value: torch.cat([level.unflatten(0, (len(metas), -1)) for level in value], 1)
    labels = joined(labels)
    weights = torch.ones_like(labels, dtype=distances[0].dtype) if weights is None else joined(weights)
    return level_targets(head.num_classes, labels, weights, joined(distances))


def fovea_targets(head, priors: Priors, sizes: Sequence[tuple], gt_instances: Sequence) -> tuple[Tensor, Tensor]:
    """Labels and targets by an own ``get_targets`` of FoveaBox, whose levels stand one after the other."""
    levels = split_levels(priors.boxes[0], priors.level_sizes, 0)
    parts = [len(gt_instances) * size for size in priors.level_sizes]
    flat = (value.split(parts) for value in head.get_targets(gt_instances, sizes, levels))
    labels, boxes = (torch.cat([v.unflatten(0, (len(gt_instances), -1)) for v in value], 1) for value in flat)
    return labels, boxes


def fovea_targets_of_each_image(head, priors: Priors, sizes: Sequence[tuple], gt: PaddedGT) -> tuple[Tensor, Tensor]:
    """The same by an own ``_get_targets_single``."""
    levels = split_levels(priors.boxes[0], priors.level_sizes, 0)
    singles = [head._get_targets_single(instances, sizes, levels) for instances in gt.instances]
    labels = torch.stack([torch.cat([level.reshape(-1) for level in image[0]]) for image in singles])
    return labels, torch.stack([torch.cat([level.reshape(-1, 4) for level in image[1]]) for image in singles])


def cell_targets_of_each_image(
    head, priors: Tensor, scores: Tensor, boxes: Tensor, objects: Tensor, gt: PaddedGT, metas: list[dict]
) -> tuple[Tensor, ...]:
    """Positives, classes, boxes and raw boxes of cells by an own ``_get_targets_single`` of YOLOX."""
    images = []
    for b, image in enumerate(zip(scores, boxes, objects)):
        own = head._get_targets_single(priors, *image, gt.instances[b], metas[b], gt.ignored_instances[b])
        pos, classes, _, matched, raw, _ = own
        pos = pos.bool()
        spread = [unmap(value, len(pos), pos) if len(value) else boxes.new_zeros(len(pos), value.shape[-1])
                  for value in (classes, matched, raw)]  # fmt: skip
        images.append((pos, *spread))
    return tuple(torch.stack(column) for column in zip(*images))


def metric_losses(
    head,
    maps: Sequence[Sequence[Tensor]],
    flat: Sequence[Tensor],
    targets: DenseTargets,
    *,
    first: Sequence[Tensor] = (),
) -> tuple[list[Tensor], ...]:
    """The same of a head whose positives have a metric, level by level.

    Args:
        first, flat: ``(B, P, D)`` before and after the level ``maps`` among the arguments.
    """
    t = targets
    by_level = lambda values: [split_levels(value, t.level_sizes) for value in values]
    rest = by_level((*flat, t.labels, t.label_weights, t.bbox_targets, t.extras['metrics']))
    columns = [*by_level(first), *maps, *rest, head.prior_generator.strides]
    return tuple(map(list, zip(*(head.loss_by_feat_single(*level) for level in zip(*columns)))))


def task_losses(
    head, task: str, maps: Sequence[Sequence[Tensor]], fields: list[Tensor], factors: list, total: Tensor, sizes: list
) -> tuple[list[Tensor], ...]:
    """The same by an own ``loss_cls_by_feat_single`` or ``loss_reg_by_feat_single`` of DDOD, level by level."""
    first = 0 if task == 'cls' else 1  # the anchors stand before the maps
    columns = [split_levels(field, sizes) for field in (*fields[:first], *fields[first + len(maps) :])]
    columns[first:first] = [list(levels) for levels in maps]
    single = getattr(head, f'loss_{task}_by_feat_single')
    return tuple(map(list, zip(*(single(*level, avg_factor=total) for level in zip(*columns, factors)))))


def pair_targets(
    head, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor], priors: Priors, gt: PaddedGT, metas: list[dict]
) -> tuple[DenseTargets, Tensor, Tensor, Tensor]:
    """Targets by an own ``get_targets`` of YOLOF, and boxes, ground truths and weights of its pairs."""
    lists = levels_to_images(cls_scores), levels_to_images(bbox_preds), list(priors.expanded()), list(priors.valid)
    value = head.get_targets(*lists, list(gt.instances), metas, list(gt.ignored_instances))
    labels, weights, factor, counted, boxes, truth = value
    targets = level_targets(head.num_classes, labels, weights, priors.expanded())
    targets.avg_factor = torch.as_tensor(factor, dtype=weights.dtype, device=labels.device)
    return targets, boxes, truth, counted.to(boxes.dtype)


def cell_maps(head, priors: Priors, sizes: Sequence[tuple[int, int]], gt_instances: Sequence) -> tuple[Tensor, Tensor]:
    """Targets and background of all anchors by an own ``get_targets`` and so on of YOLOv3."""
    anchors = [split_levels(priors.boxes[0], priors.level_sizes, 0)] * len(gt_instances)
    device = priors.boxes.device
    flags = [head.responsible_flags(sizes, box_rows(image.bboxes), device) for image in gt_instances]
    targets, negative = head.get_targets(anchors, flags, gt_instances)
    targets = torch.cat(list(targets), 1)
    return targets, torch.cat(list(negative), 1).to(targets.dtype)


def own_squares(head, maps: Sequence[Tensor], metas: list[dict], squares: Priors) -> Priors:
    """Squares by an own ``get_anchors`` of SABL."""
    lists = head.get_anchors(map_sizes(maps), metas, maps[0].device)
    boxes = torch.stack([torch.cat(list(levels)) for levels in lists])
    return Priors(boxes, squares.valid, squares.level_sizes, squares.strides)


def bucket_targets(head, approxs: Priors, squares: Priors, gt: PaddedGT, metas: list[dict]) -> DenseTargets:
    """Targets by an own ``get_targets`` or ``_get_targets_single`` of SABL."""
    by_image = lambda boxes, sizes: [
        split_levels(image, sizes, 0) for image in boxes.expand(len(metas), *boxes.shape[1:])
    ]
    approx_list = by_image(approxs.boxes, approxs.level_sizes)
    lists = approx_list, by_image(squares.valid, squares.level_sizes), by_image(squares.boxes, squares.level_sizes)
    *fields, factor = head.get_targets(*lists, list(gt.instances), metas, list(gt.ignored_instances))
    labels, weights, buckets, counted, offsets, each = (torch.cat(list(levels), 1) for levels in fields)
    targets = level_targets(head.num_classes, labels, weights, offsets, each)
    targets.level_sizes, targets.avg_factor = squares.level_sizes, offsets.new_tensor(factor)
    targets.extras.update(buckets=buckets, bucket_weights=counted)
    return targets


def bucket_losses(
    head, cls_scores: Sequence[Tensor], bbox_preds: Sequence[tuple[Tensor, Tensor]], targets: DenseTargets
) -> tuple[list[Tensor], ...]:
    """Losses by an own ``loss_by_feat_single`` of SABL, level by level."""
    t = targets
    fields = t.labels, t.label_weights, t.extras['buckets'], t.extras['bucket_weights'], t.bbox_targets, t.bbox_weights
    levels = zip(cls_scores, bbox_preds, *(split_levels(field, t.level_sizes) for field in fields))
    return tuple(map(list, zip(*(head.loss_by_feat_single(*level, avg_factor=t.avg_factor) for level in levels))))


def bucket_detections(
    head,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[tuple],
    metas: list[dict],
    cfg,
    rescale: bool,
    with_nms: bool,
) -> list:
    """Detections by an own ``_predict_by_feat_single`` of SABL."""
    squares = head.get_anchors(map_sizes(cls_scores), metas, cls_scores[0].device)
    cfg = head.test_cfg if cfg is None else cfg
    results = []
    for b, meta in enumerate(metas):
        maps = [level[b] for level in cls_scores], *([pair[i][b] for pair in bbox_preds] for i in (0, 1))
        results.append(head._predict_by_feat_single(*maps, squares[b], meta, cfg, rescale, with_nms))
    return results
