"""Ground truths with noise as queries whose matches are known (DN-DETR, arXiv:2203.01305; DINO, arXiv:2203.03605,
Sec. 3.3).

Letters: B images, N ground truths of all images, G of the image that has most, R groups, D = 2 * R * G denoising
queries of an image, Q other queries, C channels.

A group holds the ground truths of an image twice, first as positives, then as negatives, whose boxes have more noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmdet.structures.bbox import bbox_xyxy_to_cxcywh

from .assignment import Assignment
from .gt import PaddedGT, pad_rows


def noisy_labels(labels: Tensor, rate: float, num_classes: int) -> Tensor:
    """Labels of any shape, each with probability ``rate`` replaced by one that is drawn from all classes."""
    drawn = torch.rand(labels.shape, device=labels.device) < rate
    return torch.where(drawn, torch.randint_like(labels, num_classes), labels)


def noisy_boxes(boxes: Tensor, num_groups: int, scale: float) -> Tensor:
    """``(R * 2 * N, 4)`` cx, cy, w, h of ``boxes (N, 4)`` xyxy in parts of the image, by group, then positives first.

    Each side moves by less than ``scale / 2`` of the width or height, in either direction; by ``scale / 2`` up to
    ``scale`` where the box is a negative.
    """
    shape = num_groups, 2, *boxes.shape
    size = torch.rand(shape, dtype=boxes.dtype, device=boxes.device)
    size = torch.cat([size[:, :1], size[:, 1:] + 1], 1)
    size = torch.where(torch.rand(shape, device=boxes.device) < 0.5, -size, size)
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = (boxes + size * sides * (scale / 2)).clamp(0, 1)
    return bbox_xyxy_to_cxcywh(moved).flatten(0, 2)


def queries_by_image(queries: Tensor, counts: Sequence[int]) -> Tensor:
    """``(B, 2 * R * G, C)`` of ``(R * 2 * N, C)``, with zeros in the place of ground truths that do not exist.

    Args:
        counts: The ground truths of each image, N together; known on the host, so that nothing waits for the device.
    """
    total = sum(counts)
    repeats = len(queries) // total if total else 0
    rows = queries.view(repeats, total, queries.shape[1]).transpose(0, 1)  # (N, 2 * R, C)
    return pad_rows(rows, counts).transpose(1, 2).flatten(1, 2)


def denoising_mask(num_gt: int, num_groups: int, num_queries: int, device: torch.device | str) -> Tensor:
    """``(D + Q, D + Q)`` True where a query must not see another: no group is seen from outside."""
    size = 2 * num_gt
    group = torch.arange(num_groups * size + num_queries, device=device) // max(size, 1)
    group = group.clamp(max=num_groups) if size else torch.full_like(group, num_groups)
    return (group[:, None] != group) & (group < num_groups)


def known_matches(gt: PaddedGT, num_queries: int, num_groups: int) -> Assignment:
    """The positives of each group with their ground truths; negatives and what stands for none are background.

    Args:
        num_queries: D.
    """
    size = num_queries // (2 * num_groups)
    exists = pad(gt.mask, (0, max(0, size - gt.mask.shape[1])))[:, :size]  # one image may have fewer than the batch
    positive = torch.where(exists, torch.arange(1, size + 1, device=exists.device), 0)  # (B, G)
    return Assignment(torch.cat([positive, torch.zeros_like(positive)], 1).repeat(1, num_groups))
