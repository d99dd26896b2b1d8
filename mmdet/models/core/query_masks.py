"""Queries that are matched by their masks, of all decoder layers and images at once.

Letters: L decoder layers, B images, Q queries, G padded ground truths, M ground truths of all images, P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.ops.point_sample import point_sample

from .assignment import Assignment
from .constants import constant
from .gt import DenseTargets, PaddedGT, pad_batch


@dataclass
class MaskTargets:
    """
    Attributes:
        labels: ``(L, B, Q)`` class, C for background.
        label_weights: ``(L, B, Q)``.
        queries: ``(L, M)`` the query that learns a mask, counted through the images.
        weights: ``(L, M)`` 1, or 0 where no query learns the mask.
        masks: ``(m, H, W)`` of each image; M is the sum of m.
        avg_factor: ``(L,)`` what the losses of masks are divided by.
    """

    labels: Tensor
    label_weights: Tensor
    queries: Tensor
    weights: Tensor
    masks: Sequence[Tensor]
    avg_factor: Tensor


def gt_of_masks(instances: Sequence[InstanceData]) -> PaddedGT:
    """``labels`` and ``masks`` without boxes, which are zeros."""
    labels = [image.labels.long() for image in instances]
    padded = pad_batch(labels)
    return PaddedGT(
        boxes=padded.new_zeros(*padded.shape, 4, dtype=torch.float32),
        labels=padded,
        mask=pad_batch([torch.ones_like(label, dtype=torch.bool) for label in labels]),
        counts=[len(label) for label in labels],
        instances=instances,
        ignored_instances=[None] * len(labels),
    )


def targets_of_matching(gt_inds: Tensor, instances: Sequence[InstanceData], num_classes: int) -> MaskTargets:
    """Targets by ``gt_inds (L, B, Q)``, as in :class:`Assignment`, in which a ground truth has at most one query.

    How many masks there are is known on the host, whatever was matched: each has its place.
    """
    layers, batch, queries = gt_inds.shape
    gt = gt_of_masks(instances)
    dense = DenseTargets.build(Assignment(gt_inds.flatten(0, 1)), gt.repeated(layers), num_classes)
    names = torch.arange(queries * batch, device=gt_inds.device).view(batch, queries).expand_as(gt_inds)
    width = gt.mask.shape[1] + 1  # the first column takes the queries without a ground truth
    query_of = torch.full((layers, batch, width), -1, device=gt_inds.device).scatter_(2, gt_inds, names)
    columns = [b * width + g for b, count in enumerate(gt.counts) for g in range(1, count + 1)]
    query_of = query_of.flatten(1)[:, constant(columns, like=gt_inds)]
    pos = gt_inds > 0
    return MaskTargets(
        labels=dense.labels.view(gt_inds.shape),
        label_weights=dense.label_weights.view(gt_inds.shape),
        queries=query_of.clamp(min=0),
        weights=(query_of >= 0).float(),
        masks=[image.masks for image in instances],
        avg_factor=pos.sum(2).clamp(min=1).sum(1).float(),
    )


def mask_truth_at(masks: Tensor, points: Tensor, mode: str = 'bilinear') -> Tensor:
    """``(L, m, P)`` shares of the masks ``(m, H, W)`` of an image at ``(L, m, P, 2)``: each mask is read once."""
    joined = points.transpose(0, 1).flatten(1, 2)  # (m, L * P, 2)
    found = point_sample(masks[:, None].float(), joined, mode=mode)[:, 0]
    return found.unflatten(1, (len(points), -1)).transpose(0, 1)
