"""The way through methods that research code overrides.

Dense heads compute on whole batches, ``(B, P, .)``. They come here only where a subclass replaced a method of
MMDetection 3.x that knows images or levels: values become the lists that the method expects, and what it returns
becomes a batch again. A method that nobody replaced has the attribute ``by_batch``.

Letters: B images, P priors of all levels, C classes, D values per prior.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    Priors,
    flatten_outputs,
    labels_of,
    map_sizes,
    select_single_mlvl,
    split_levels,
)
from mmdet.models.core.assign_result import AssignResult
from mmdet.models.core.sampling_result import SamplingResult
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.structures.bbox import get_box_tensor

TARGETS = ('labels', 'label_weights', 'bbox_targets', 'bbox_weights')


def as_level(flat: Tensor) -> Tensor:
    """``(B, P, D)`` dressed as one level ``(B, D, P, 1)``: a view, for methods written for a single level."""
    return flat.transpose(1, 2).unsqueeze(-1)


# ---------------------------------------------------------------------------------------------------- priors


class _PriorList(list):
    origin: Priors


class _FlagList(list):
    valid: Tensor


def priors_as_lists(priors: Priors) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """``[image][level]`` lists of priors and of valid flags: views, or B references to the shared grid."""
    prior_list = _PriorList()
    prior_list.origin = priors
    shared = split_levels(priors.boxes[0], priors.level_sizes, 0)
    for b in range(1 if is_fixed_size() else len(priors.valid)):  # the images of a graph are one
        own = shared if b == 0 or len(priors.boxes) == 1 else split_levels(priors.boxes[b], priors.level_sizes, 0)
        prior_list.append(own)
    return prior_list, flags_as_lists(priors.valid, priors.level_sizes)


def priors_from_lists(prior_list: Sequence, valid_list: Sequence) -> Priors:
    """Lists by image of lists by level; those that :func:`priors_as_lists` made give their origin back."""
    if isinstance(prior_list, _PriorList) and isinstance(valid_list, _FlagList):
        origin, flags = prior_list.origin, valid_list.valid
        return origin if origin.valid is flags else replace(origin, valid=flags)
    joined = lambda levels: get_box_tensor(levels) if not isinstance(levels, (list, tuple)) else torch.cat(
        [get_box_tensor(level) for level in levels]
    )  # fmt: skip
    first = prior_list[0]
    sizes = [len(level) for level in first] if isinstance(first, (list, tuple)) else [len(first)]
    boxes, valid = torch.stack([joined(levels) for levels in prior_list]), [joined(levels) for levels in valid_list]
    return Priors(boxes, torch.stack(valid).bool(), sizes)


def priors_of(prior_list: Sequence) -> Priors:
    """:func:`priors_from_lists` where there are no flags: those of the origin, or else all are valid."""
    if isinstance(prior_list, _PriorList):
        return prior_list.origin
    flags = [[level.new_ones(len(level), dtype=torch.bool) for level in levels] for levels in prior_list]
    return priors_from_lists(prior_list, flags)


def flags_as_lists(valid: Tensor, level_sizes: Sequence[int]) -> list[list[Tensor]]:
    """Flags ``(B, P)`` as views, lists by image of lists by level."""
    rows = valid[:1] if is_fixed_size() else valid
    flags = _FlagList(split_levels(row, level_sizes, 0) for row in rows)
    flags.valid = valid
    return flags


# --------------------------------------------------------------------------------------------------- targets


class TargetLists(DenseTargets):
    """Targets that unpack as the tuple that ``get_targets`` of MMDetection returns: lists by level, ``avg_factor``, and
    what an own ``_get_targets_single`` added (``extras['rest']``). The anchors come first if there are any."""

    @classmethod
    def of(cls, targets: DenseTargets, anchors: Tensor | None = None) -> TargetLists:
        """These targets, with the anchors ``(B, P, 4)`` that the tuple begins with."""
        weights = targets.extras.get('class_weights', targets.label_weights)
        return cls(**{**vars(targets), 'anchors': anchors, 'label_weights': weights})

    def by_level(self, value: Tensor) -> list[Tensor]:
        """``(B, P, ...)`` -> one tensor for each level."""
        return split_levels(value, self.level_sizes)

    def __iter__(self) -> Iterator[Any]:
        if self.anchors is not None:
            yield self.by_level(self.anchors)
        for name in TARGETS:
            yield self.by_level(getattr(self, name))
        yield self.avg_factor
        for value in self.extras.get('rest', ()):
            yield self.by_level(value) if isinstance(value, Tensor) else value


class ProposalTargetLists(TargetLists):
    """Targets that unpack as RepPoints' ``get_targets`` does in MMDetection: the proposals after the boxes, which share
    the labels' lists by level, and their weights."""

    def __iter__(self) -> Iterator[Any]:
        for value in (self.labels, self.label_weights, self.bbox_targets, self.anchors, self.bbox_weights):
            yield self.by_level(value)
        yield self.avg_factor


class ImageTargets(DenseTargets):
    """Targets that unpack as PAA's ``get_targets`` does in MMDetection: lists by image of the labels, label weights,
    box targets, box weights, positive indices, and the ground truth of each positive."""

    @classmethod
    def of(cls, targets: DenseTargets) -> ImageTargets:
        """These targets."""
        return cls(**vars(targets))

    def __iter__(self) -> Iterator[list[Tensor]]:
        for name in TARGETS:
            yield list(getattr(self, name))
        yield [pos.nonzero().flatten() for pos in self.pos]
        yield [inds[pos] - 1 for inds, pos in zip(self.gt_inds, self.pos)]


def targets_from_lists(value: Any, num_classes: int) -> DenseTargets:
    """``value`` itself, or the plain tuple of lists by level of an overridden ``get_targets``."""
    if isinstance(value, DenseTargets):
        return value
    columns = [torch.cat(list(levels), 1) if isinstance(levels, (list, tuple)) else levels for levels in value]
    anchors = columns.pop(0) if columns[1].dim() == columns[0].dim() - 1 and columns[0].is_floating_point() else None
    labels, label_weights, bbox_targets, bbox_weights, avg_factor = columns[:5]
    first = value[0] if anchors is None else value[1]
    return DenseTargets(
        labels,
        label_weights,
        bbox_targets,
        bbox_weights,
        pos=(labels >= 0) & (labels < num_classes),
        avg_factor=torch.as_tensor(avg_factor, dtype=bbox_weights.dtype, device=labels.device),
        level_sizes=[level.shape[1] for level in first],
        anchors=anchors,
        extras=dict(rest=columns[5:]),
    )


def targets_from_images(value: tuple, level_sizes: list[int]) -> DenseTargets:
    """The plain tuple of lists by image of an overridden ``get_targets`` of PAA."""
    labels, label_weights, bbox_targets, bbox_weights = (torch.stack(list(images)) for images in value[:4])
    gt_inds = torch.zeros_like(labels)
    for inds, where, which in zip(gt_inds, value[4], value[5]):
        inds[where] = which + 1
    pos = gt_inds > 0
    return DenseTargets(labels, label_weights, bbox_targets, bbox_weights, pos, pos.sum(), level_sizes, gt_inds)


def level_targets(num_classes: int, labels: Tensor, label_weights: Tensor, *boxes: Tensor) -> DenseTargets:
    """The arguments of a ``loss_by_feat_single``, each ``(B, P, ...)``, as targets."""
    bbox_targets, bbox_weights = boxes if len(boxes) == 2 else (boxes[0], torch.ones_like(boxes[0]))
    pos = (labels >= 0) & (labels < num_classes)
    return DenseTargets(labels, label_weights, bbox_targets, bbox_weights, pos, pos.sum(), [labels.shape[1]])


def anchors_and_targets(
    head, cls_scores: Sequence[Tensor], gt_instances: Sequence, metas: list[dict], ignored: Sequence | None
) -> tuple[Tensor, DenseTargets]:
    """Anchors ``(B, P, 4)`` and targets of a batch by an own ``get_anchors`` or ``get_targets``."""
    lists = head.get_anchors(map_sizes(cls_scores), metas, device=cls_scores[0].device)
    targets = head.get_targets(*lists, gt_instances, metas, batch_gt_instances_ignore=ignored)
    priors = priors_from_lists(*lists)
    if isinstance(targets, tuple) and targets[0][0].dim() == 1:
        targets = targets_from_images(targets, priors.level_sizes)
    targets = targets_from_lists(targets, head.num_classes)
    if head.matches_in_targets and targets.gt_inds is None:
        targets.gt_inds = targets.extras['rest'][0] + 1
    return priors.expanded(), targets


def own_anchors(head, maps: Sequence[Tensor], metas: list[dict]) -> Tensor:
    """Anchors ``(B, P, 4)``, by an own ``get_anchors`` where there is one."""
    if hasattr(head.get_anchors, 'by_batch'):
        return head._priors(maps).boxes.expand(len(metas), -1, -1)
    return own_priors(head, maps, metas).expanded()


def own_priors(head, maps: Sequence[Tensor], metas: list[dict]) -> Priors:
    """Priors of level maps by an own ``get_anchors``."""
    return priors_from_lists(*head.get_anchors(map_sizes(maps), metas, device=maps[0].device))


def own_points(head, maps: Sequence[Tensor], metas: list[dict]) -> Priors:
    """Locations ``(1, P, 4)`` by an own ``get_points`` of RepPoints."""
    priors = priors_from_lists(*head.get_points(map_sizes(maps), metas, maps[0].device))
    return Priors(priors.boxes[:1], priors.valid, priors.level_sizes)


def staged_targets(head, priors: Priors, gt: PaddedGT, metas: list[dict], stage: str) -> DenseTargets:
    """Targets by an own ``get_targets`` of RepPoints."""
    lists, ignored = priors_as_lists(priors), list(gt.ignored_instances)
    targets = head.get_targets(*lists, list(gt.instances), metas, ignored, stage=stage)
    if isinstance(targets, DenseTargets):
        return targets
    labels, weights, boxes, _, box_weights, *rest = targets
    return targets_from_lists((labels, weights, boxes, box_weights, *rest), head.num_classes)


def staged_targets_of_each_image(head, priors: Priors, gt: PaddedGT, stage: str) -> DenseTargets:
    """Targets by an own ``_get_targets_single`` of RepPoints."""
    singles = []
    for b, (boxes, valid) in enumerate(zip(priors.expanded(), priors.valid)):
        single = head._get_targets_single(boxes, valid, gt.instances[b], gt.ignored_instances[b], stage)
        singles.append((*single[:3], *single[4:]))
    return stack_targets(singles, head.num_classes, priors.level_sizes)


def targets_of_each_image(head, priors: Priors, gt: PaddedGT, metas: list[dict]) -> DenseTargets:
    """Targets by an own ``_get_targets_single``."""
    levels = [priors.level_sizes] if head.anchors_in_targets else []
    return stack_targets(
        [
            head._get_targets_single(boxes, valid, *levels, gt.instances[b], metas[b], gt.ignored_instances[b])
            for b, (boxes, valid) in enumerate(zip(priors.expanded(), priors.valid))
        ],
        head.num_classes,
        priors.level_sizes,
        head.anchors_in_targets,
    )


def stack_targets(
    singles: Sequence[Sequence], num_classes: int, level_sizes: list[int], anchors_first: bool = False
) -> DenseTargets:
    """Targets of a batch from what ``_get_targets_single`` returned for each image: (anchors,) labels, their weights,
    box targets, their weights, positive and negative indices, the sampling result, and anything more."""
    singles = [single[anchors_first:] for single in singles]
    labels, weights, boxes, box_weights = (torch.stack([single[i] for single in singles]) for i in range(4))
    results = [single[6] for single in singles]
    gt_inds = torch.zeros_like(labels)
    for inds, result in zip(gt_inds, results):
        inds[result.pos_inds] = result.pos_assigned_gt_inds + 1
    rest: list[Any] = []
    for column in zip(*(single[7:] for single in singles)):
        whole = all(isinstance(value, Tensor) and len(value) == labels.shape[1] for value in column)
        rest.append(torch.stack(column) if whole else list(column))
    factor = sum(result.avg_factor for result in results)
    return DenseTargets(
        labels,
        weights,
        boxes,
        box_weights,
        pos=(labels >= 0) & (labels < num_classes),
        avg_factor=torch.as_tensor(factor, dtype=box_weights.dtype, device=labels.device),
        level_sizes=level_sizes,
        gt_inds=gt_inds,
        extras=dict(sampling_results=results, rest=rest),
    )


def point_targets(head, priors: Priors, gt_instances: Sequence) -> tuple[Tensor, ...]:
    """Labels ``(B, P)``, box targets ``(B, P, 4)`` and what else a head like FCOS has, by an own ``get_targets``."""
    levels = head.get_targets(split_levels(priors.boxes[0], priors.level_sizes, 0), gt_instances)
    return tuple(torch.cat([v.unflatten(0, (len(gt_instances), -1)) for v in value], 1) for value in levels)


def point_target_lists(values: Sequence[Tensor], sizes: list[int]) -> tuple[list[Tensor], ...]:
    """The inverse: lists by level, the images of a level one after the other."""
    return tuple([level.flatten(0, 1) for level in split_levels(value, sizes)] for value in values)


def point_targets_of_each_image(head, gt: PaddedGT, *arguments) -> tuple[Tensor, ...]:
    """The same as :func:`point_targets` by an own ``_get_targets_single``."""
    singles = [head._get_targets_single(instances, *arguments) for instances in gt.instances]
    return tuple(torch.stack(values) for values in zip(*singles))


def image_targets(targets: DenseTargets, priors: Priors, gt: PaddedGT, assignment: Assignment, sampler) -> tuple:
    """What ``_get_targets_single`` of MMDetection returns for the one image of a batch."""
    (result,) = sampling_results(targets, priors, gt, assignment, sampler)
    lists = TargetLists.of(targets)
    rest = [value[0] for value in lists.extras.get('rest', ())]
    return (*(getattr(lists, name)[0] for name in TARGETS), result.pos_inds, result.neg_inds, result, *rest)


def sampling_results(
    targets: DenseTargets, priors: Priors, gt: PaddedGT, assignment: Assignment, sampler
) -> list[SamplingResult]:
    """The drawn samples of each image as research code knows them."""
    labels, quality = labels_of(assignment, gt), assignment.quality
    negative = (targets.label_weights > 0) & ~targets.pos
    results = []
    for b, boxes in enumerate(priors.expanded()):
        assigned = AssignResult(gt.counts[b], assignment.gt_inds[b], None if quality is None else quality[b], labels[b])
        results.append(
            SamplingResult(
                targets.pos[b].nonzero().flatten(),
                negative[b].nonzero().flatten(),
                boxes,
                get_box_tensor(gt.instances[b].bboxes).reshape(-1, gt.boxes.shape[-1]),
                assigned,
                torch.zeros(len(boxes), dtype=torch.uint8, device=boxes.device),
                avg_factor_with_neg=sampler.avg_factor_with_neg,
            )
        )
    return results


# ---------------------------------------------------------------------------------------------------- losses


def losses_by_single(
    head, outputs: Sequence[tuple[Sequence[Tensor], int]], anchors: Tensor, targets: DenseTargets, avg_factor: Tensor
) -> tuple[list[Tensor], ...]:
    """The values of an own ``loss_by_feat_single``, each a list by call.

    It is called once with the whole pyramid as one level; level by level where it takes the stride or where a loss
    counts by level.

    Args:
        outputs: Level maps ``[(B, A * D, H, W)]`` and D, of each output of the head.
    """
    names = _arguments_of_builtin(head, 'loss_by_feat_single')
    fields = dict(anchors=anchors, **{name: getattr(targets, name) for name in TARGETS})
    if 'stride' in names or head.counts_by_level:
        split = {name: split_levels(value, targets.level_sizes) for name, value in fields.items()}
        split['stride'] = list(head.prior_generator.strides)
        maps = [list(levels) for levels, _ in outputs]
    else:
        split = {name: [value] for name, value in fields.items()}
        maps = [[as_level(flat)] for flat in flatten_outputs(*outputs)]
    third = 'soft_targets' if 'soft_targets' in names else 'centerness'
    split.update(zip(('cls_score', 'bbox_pred', third), maps))
    columns = [split[name] for name in names if name != 'avg_factor']
    calls = [head.loss_by_feat_single(*values, avg_factor=avg_factor) for values in zip(*columns)]
    return tuple(map(list, zip(*calls)))


def losses_by_image(head, flat: Sequence[Tensor], anchors: Tensor, targets: DenseTargets) -> tuple[list[Tensor], ...]:
    """The same where ``loss_by_feat_single`` takes the flat ``(P, D)`` values of one image, as SSD's does."""
    columns = (*flat, anchors, *(getattr(targets, name) for name in TARGETS))
    calls = [head.loss_by_feat_single(*image, avg_factor=targets.avg_factor) for image in zip(*columns)]
    return tuple(map(list, zip(*calls)))


def losses_of_points(
    head, cls_scores: Sequence[Tensor], first: Tensor, refined: Tensor, init: DenseTargets, refine: DenseTargets
) -> tuple[list[Tensor], ...]:
    """The same for RepPoints, whose ``loss_by_feat_single`` is called level by level."""
    fields: tuple[Tensor, ...] = (first, refined, refine.labels, refine.label_weights)
    fields += (init.bbox_targets, init.bbox_weights, refine.bbox_targets, refine.bbox_weights)
    levels = zip(cls_scores, *(split_levels(field, refine.level_sizes) for field in fields), head.point_strides)
    factors = dict(avg_factor_init=init.avg_factor, avg_factor_refine=refine.avg_factor)
    return tuple(map(list, zip(*(head.loss_by_feat_single(*level, **factors) for level in levels))))


def _arguments_of_builtin(head, name: str) -> list[str]:
    """Names of the arguments of the method that research code replaced; its own may be called otherwise."""
    builtin = next(
        method
        for method in (vars(kind).get(name) for kind in type(head).__mro__)
        if method is not None and hasattr(method, 'by_batch')
    )
    return list(inspect.signature(builtin).parameters)[1:]


# ------------------------------------------------------------------------------------------------ detections


def detections_of_each_image(
    head, cls_scores, bbox_preds, score_factors, priors: Priors, metas: list[dict], cfg, rescale: bool, with_nms: bool
) -> list[InstanceData]:
    """Detections by an own ``_predict_by_feat_single``."""
    results = []
    levels = split_levels(priors.boxes[0], priors.level_sizes, 0)
    for b, meta in enumerate(metas):
        factors = [None] * len(cls_scores) if score_factors is None else select_single_mlvl(score_factors, b)
        results.append(
            head._predict_by_feat_single(
                cls_score_list=select_single_mlvl(cls_scores, b),
                bbox_pred_list=select_single_mlvl(bbox_preds, b),
                score_factor_list=factors,
                mlvl_priors=levels,
                img_meta=meta,
                cfg=cfg,
                rescale=rescale,
                with_nms=with_nms,
            )
        )
    return results


def post_process_each_image(
    head, fields: dict[str, Tensor], score_thr: float, metas: list[dict], cfg, rescale: bool, with_nms: bool
) -> list[InstanceData]:
    """Detections by an own ``_bbox_post_process`` from candidates ``{name: (B, K, ...)}``."""
    results = []
    for b, (keep, meta) in enumerate(zip(fields['scores'] > score_thr, metas)):
        candidates = InstanceData(**{name: value[b][keep] for name, value in fields.items()})
        results.append(head._bbox_post_process(candidates, cfg, rescale=rescale, with_nms=with_nms, img_meta=meta))
    return results
