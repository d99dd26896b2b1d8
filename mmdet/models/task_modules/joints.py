"""The way through assigners and samplers of research code, which work image by image.

Letters: B images, P priors.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Assignment, PaddedGT, Priors, labels_of
from mmdet.models.core.assign_result import AssignResult


def assign_images(assigner: Any, priors: Priors, gt: PaddedGT, **predictions: Tensor) -> Assignment:
    """Assign a batch by an own ``assign``, which sees the valid priors of one image at a time."""
    boxes, inds, quality = priors.expanded(), [], []
    takes_levels = 'num_level_priors' in inspect.signature(assigner.assign).parameters
    for b, (instances, ignored) in enumerate(zip(gt.instances, gt.ignored_instances)):
        keep = priors.valid[b]
        pred = InstanceData(priors=boxes[b][keep], **{name: value[b][keep] for name, value in predictions.items()})
        levels = [[int(part.sum()) for part in keep.split(priors.level_sizes)]] if takes_levels else []
        result = assigner.assign(pred, *levels, instances, ignored)
        inds.append(torch.full_like(keep, -1, dtype=torch.long).masked_scatter(keep, result.gt_inds))
        overlaps = result.max_overlaps
        overlaps = boxes.new_zeros(len(pred)) if overlaps is None else overlaps.to(boxes.dtype)
        quality.append(boxes.new_zeros(len(keep)).masked_scatter(keep, overlaps))
    return Assignment(torch.stack(inds), torch.stack(quality))


def sample_images(sampler: Any, priors: Priors, assignment: Assignment, gt: PaddedGT) -> tuple[Tensor, Tensor]:
    """``(B, P)`` bool of the positives and negatives that an own ``sample`` draws, one image at a time."""
    pos, neg = torch.zeros_like(assignment.pos), torch.zeros_like(assignment.pos)
    labels = labels_of(assignment, gt)
    for b, (count, boxes) in enumerate(zip(gt.counts, priors.expanded())):
        quality = None if assignment.quality is None else assignment.quality[b]
        result = sampler.sample(
            AssignResult(count, assignment.gt_inds[b], quality, labels[b]),
            InstanceData(priors=boxes),
            InstanceData(bboxes=gt.boxes[b, :count], labels=gt.labels[b, :count]),
        )
        pos[b, result.pos_inds], neg[b, result.neg_inds] = True, True
    return pos, neg
