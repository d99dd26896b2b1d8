"""The way through assigners and samplers of research code, which work image by image.

Letters: B images, P priors.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import (
    Assignment,
    AssignResult,
    MatchedQueries,
    PaddedGT,
    Priors,
    QueryPairs,
    RoISamples,
    SamplingResult,
    labels_of,
    pad_batch,
    solve,
    unmap,
)
from mmdet.structures.bbox import get_box_tensor


def assign_images(
    assigner: Any, priors: Priors | None, gt: PaddedGT, options: dict | None = None, **predictions: Tensor
) -> Assignment:
    """Assign a batch by an own ``assign``, which sees the valid priors of one image at a time.

    Args:
        options: Further arguments of ``assign``.
    """
    inds, quality = [], []
    extras: dict[str, list[Tensor]] = {}
    takes_levels = 'num_level_priors' in inspect.signature(assigner.assign).parameters
    if priors is None:  # queries, which are matched by what they predict
        some = next(iter(predictions.values()))
        valid, boxes = torch.ones_like(some[..., 0], dtype=torch.bool), some
    else:
        valid, boxes = priors.valid, priors.expanded()
    for b, (instances, ignored) in enumerate(zip(gt.instances, gt.ignored_instances)):
        keep = valid[b]
        pred = InstanceData(**{name: value[b][keep] for name, value in predictions.items()})
        if priors is not None:
            pred.priors = boxes[b][keep]
        levels = (
            [[int(part.sum()) for part in keep.split(priors.level_sizes)]]
            if takes_levels and priors is not None
            else []
        )
        result = assigner.assign(pred, *levels, instances, ignored, **(options or {}))
        for name, value in getattr(result, '_extra_properties', {}).items():
            if isinstance(value, Tensor) and value.shape == result.gt_inds.shape:
                extras.setdefault(name, []).append(value.new_zeros(len(keep)).masked_scatter(keep, value))
        inds.append(torch.full_like(keep, -1, dtype=torch.long).masked_scatter(keep, result.gt_inds))
        overlaps = result.max_overlaps
        overlaps = boxes.new_zeros(len(pred)) if overlaps is None else overlaps.to(boxes.dtype)
        quality.append(boxes.new_zeros(len(keep)).masked_scatter(keep, overlaps))
    return Assignment(torch.stack(inds), torch.stack(quality), {k: torch.stack(v) for k, v in extras.items()})


def sample_images(sampler: Any, priors: Priors, assignment: Assignment, gt: PaddedGT) -> tuple[Tensor, Tensor]:
    """``(B, P)`` bool of the positives and negatives that an own ``sample`` draws, one image at a time."""
    pos, neg = torch.zeros_like(assignment.pos), torch.zeros_like(assignment.pos)
    for b, (keep, result) in enumerate(_drawn_images(sampler, priors, assignment, gt)):
        places = keep.nonzero().flatten()
        pos[b, places[result.pos_inds]], neg[b, places[result.neg_inds]] = True, True
    return pos, neg


def sample_regions(
    sampler: Any, priors: Priors, assignment: Assignment, gt: PaddedGT, feats: Sequence[Tensor]
) -> RoISamples:
    """Slots of the regions that an own ``sample`` draws, one image at a time."""
    return as_samples([result for _, result in _drawn_images(sampler, priors, assignment, gt, feats)])


def _drawn_images(
    sampler: Any, priors: Priors, assignment: Assignment, gt: PaddedGT, feats: Sequence[Tensor] = ()
) -> Iterator[tuple[Tensor, SamplingResult]]:
    """The valid priors of each image, and what is drawn from them."""
    labels = labels_of(assignment, gt)
    for b, (instances, keep) in enumerate(zip(gt.instances, priors.valid)):
        quality = None if assignment.quality is None else assignment.quality[b][keep]
        image = AssignResult(len(instances), assignment.gt_inds[b][keep], quality, labels[b][keep])
        maps = dict(feats=[level[b : b + 1] for level in feats]) if feats else {}
        drawn = sampler.sample(image, InstanceData(priors=priors.expanded()[b][keep]), instances, **maps)
        if isinstance(drawn, tuple):  # with weights of the negatives
            drawn, drawn.neg_label_weights = drawn
        yield keep, drawn


def as_samples(results: Sequence[SamplingResult]) -> RoISamples:
    """What was drawn image by image, in slots; rows are in the order of the results, positives first."""

    def of_positives(name: str) -> Tensor:
        parts = []
        for result in results:
            values = get_box_tensor(getattr(result, name))
            parts.append(torch.cat([values, values.new_zeros(len(result.neg_priors), *values.shape[1:])]))
        return pad_batch(parts)

    boxes = [get_box_tensor(result.priors) for result in results]
    valid = [box.new_ones(len(box), dtype=torch.bool) for box in boxes]
    weights = [result.neg_label_weights for result in results]
    weighed = [
        torch.cat([r.pos_priors.new_ones(len(r.pos_priors)), w]) for r, w in zip(results, weights) if w is not None
    ]
    return RoISamples(
        pad_batch(boxes),
        pad_batch(valid),
        pad_batch([torch.arange(len(v), device=v.device) < len(r.pos_priors) for v, r in zip(valid, results)]),
        of_positives('pos_assigned_gt_inds'),
        of_positives('pos_gt_bboxes'),
        of_positives('pos_gt_labels'),
        of_positives('pos_is_gt').bool(),
        num_pos_slots=max(1, *(len(result.pos_priors) for result in results)),
        packed=True,
        results=list(results),
        neg_weights=pad_batch(weighed) if len(weighed) == len(boxes) else None,
    )


def as_matched(results: Sequence[SamplingResult]) -> MatchedQueries:
    """What was drawn of the queries of each image, all of which must be in it, in the order of the queries."""
    drawn = as_samples(results)
    place = torch.stack([torch.cat([result.pos_inds, result.neg_inds]) for result in results]).argsort(1)
    image = torch.arange(len(place), device=place.device)[:, None]
    names = ('boxes', 'valid', 'pos', 'gt_inds', 'gt_boxes', 'gt_labels', 'is_gt')
    return MatchedQueries(
        *(getattr(drawn, name)[image, place] for name in names),
        num_pos_slots=drawn.num_pos_slots,
        packed=False,
        counts=[len(result.pos_inds) for result in results],
        results=drawn.results,
    )


def cost_of_each_image(cost: Any, pairs: QueryPairs) -> Tensor:
    """``(N, Q, G)`` by a cost that research code calls with one image."""
    columns = []
    for n, instances in enumerate(pairs.gt.instances):
        pred = InstanceData(**{name: value[n] for name, value in pairs.predictions.items()})
        image = cost(pred_instances=pred, gt_instances=instances, img_meta=pairs.metas[n])
        columns.append(image.transpose(0, 1))
    padded = pad_batch(columns).transpose(1, 2)
    return torch.nn.functional.pad(padded, (0, pairs.gt.mask.shape[1] - padded.shape[2]))


def match_groups(assigner: Any, groups: Iterable[QueryPairs]) -> list[Assignment]:
    """Assignments of groups of queries; by an own ``assign`` one decoder layer and image at a time."""
    if not hasattr(assigner.assign, 'by_batch'):
        return [_match_images(assigner, pairs) for pairs in groups]
    if hasattr(assigner, 'assign_groups'):
        return assigner.assign_groups(groups)
    rest = lambda pairs: dict(sizes=pairs.sizes, metas=pairs.metas)
    return [assigner.assign_batch(None, pairs.gt, **pairs.predictions, **rest(pairs)) for pairs in groups]


def match_stages(assigners: Sequence[Any], stages: Sequence[QueryPairs]) -> list[Assignment]:
    """Assignments of the queries of each stage by the assigner of the stage: with one transfer each way, if all are
    one-to-one."""
    if all(getattr(assigner, 'one_to_one', False) for assigner in assigners):
        costs = [assigner.cost(pairs) for assigner, pairs in zip(assigners, stages)]
        return [Assignment(inds) for inds in solve(costs, [pairs.gt.counts for pairs in stages])]
    return [match_groups(assigner, [pairs])[0] for assigner, pairs in zip(assigners, stages)]


def _match_images(assigner: Any, pairs: QueryPairs) -> Assignment:
    inds = []
    for n, (instances, meta) in enumerate(zip(pairs.gt.instances, pairs.metas)):
        usable = None if pairs.usable is None else pairs.usable[n]
        keep = slice(None) if usable is None else usable
        pred = InstanceData(**{name: value[n][keep] for name, value in pairs.predictions.items()})
        found = assigner.assign(pred_instances=pred, gt_instances=instances, img_meta=meta).gt_inds
        inds.append(found if usable is None else unmap(found, len(usable), usable, -1))
    return Assignment(torch.stack(inds))
