"""The way through methods of mask heads that research code overrides; see :mod:`joints`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet.models.core import CellTargets


def cell_targets_of_each_image(
    head, gt_instances: Sequence, sizes: Sequence[tuple[int, int]]
) -> tuple[list[CellTargets], Tensor]:
    """Targets of each level and labels ``(B, P)`` by an own ``_get_targets_single`` of SOLO."""
    images = [head._get_targets_single(instances, featmap_sizes=sizes) for instances in gt_instances]
    levels = []
    for level, count in enumerate(head.num_grids):
        cells = [_flat_cells(image[2][level], count) for image in images]
        levels.append(CellTargets.from_lists(cells, [image[0][level] for image in images]))
    return levels, _flat_labels(images)


def _flat_cells(members: Tensor, count: int) -> Tensor:
    """Cells of a grid: of those that are marked ``(n * n,)``, or of rows and columns ``(n_pos, 2)``."""
    return members.nonzero()[:, 0] if members.dim() == 1 else members[:, 0] * count + members[:, 1]


def _flat_labels(images: Sequence[tuple]) -> Tensor:
    return torch.stack([torch.cat([level.flatten() for level in image[1]]) for image in images])


def pairs_of_each_image(head, gt_instances: Sequence, size: tuple[int, int]) -> tuple[CellTargets, Tensor]:
    """Targets of pairs of an object and a cell, and labels ``(B, P)``, by an own ``_get_targets_single`` of SOLOv2."""
    images = [head._get_targets_single(instances, featmap_sizes=size) for instances in gt_instances]
    device = images[0][1][0].device
    cells, masks = [], []
    for image in images:
        start, of_image = 0, []
        for places, count in zip(image[3], head.num_grids):
            of_image.append(torch.as_tensor(places, dtype=torch.long, device=device).reshape(-1) + start)
            start += count**2
        cells.append(torch.cat(of_image))
        masks.append(torch.cat([level.reshape(-1, *size) for level in image[0]]))
    return CellTargets.from_lists(cells, masks), _flat_labels(images)
