"""The way through methods of mask heads that research code overrides; see :mod:`joints`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import (
    Assignment,
    CellTargets,
    DenseTargets,
    PaddedGT,
    Priors,
    select_single_mlvl,
    split_levels,
)
from mmdet.models.core.gt import pad_batch

from . import joints


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


def points_of_each_image(head, outputs: Sequence, priors: Priors, metas: list[dict], *options) -> list[InstanceData]:
    """Detections by an own ``_predict_by_feat_single`` of CondInst's box head."""
    points = split_levels(priors.boxes[0], priors.level_sizes, 0)
    strides = split_levels(priors.stride, priors.level_sizes, 0)
    results = []
    for b, meta in enumerate(metas):
        maps = [[None] * len(points) if levels is None else select_single_mlvl(levels, b) for levels in outputs]
        results.append(head._predict_by_feat_single(*maps, points, strides, meta, *options))
    return results


def pairs_by_single(head, mask_preds: Sequence[Tensor], gt_instances: Sequence, infos) -> tuple[Tensor, ...]:
    """Logits and target masks ``(B, S, h, w)``, further targets if there are any, and which slots are used, by an own
    ``_get_targets_single`` of CondInst."""
    preds, targets, alive = [], [], mask_preds[0].new_zeros(())
    for image in zip(mask_preds, gt_instances, infos):
        pred, *rest, count = head._get_targets_single(*image)
        alive = alive + image[0].sum() * 0  # every parameter has a gradient, if there is nothing to learn
        preds.append(pred[:count])
        targets.append(rest)
    used = pad_batch([torch.ones(len(pred), dtype=torch.bool, device=pred.device) for pred in preds])
    return pad_batch(preds) + alive, *(_padded(column, preds[0]) for column in zip(*targets)), used


def _padded(column: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Targets of each image, None for none of them, as ``(B, S, ...)``."""
    shape = next((value.shape[1:] for value in column if value is not None), like.shape[1:])
    return pad_batch([like.new_zeros(0, *shape) if value is None else value.to(like.dtype) for value in column])


def matches_of(targets: DenseTargets) -> Tensor:
    """``(B, P)``: i + 1 for a positive of ground truth i; by the sampling results of an own ``get_targets``."""
    if targets.gt_inds is not None:
        return torch.where(targets.pos, targets.gt_inds, 0)
    matches = torch.zeros_like(targets.labels)
    for row, result in zip(matches, targets.extras['sampling_results']):
        row[result.pos_inds] = result.pos_assigned_gt_inds + 1
    return matches


def samples_of(head, targets: DenseTargets, gt_inds: Tensor, priors: Priors, gt: PaddedGT) -> list:
    """The sampling result of each image."""
    if 'sampling_results' in targets.extras:
        return targets.extras['sampling_results']
    return joints.sampling_results(targets, priors, gt, Assignment(gt_inds), head.sampler)


def with_tensor_masks(instances: InstanceData, device: torch.device) -> InstanceData:
    """Instances whose masks are a tensor ``(n, H, W)`` of bool, as research code of RTMDet-Ins has them."""
    fields = dict(instances.items())
    if not isinstance(fields['masks'], Tensor):
        fields['masks'] = fields['masks'].to_tensor(dtype=torch.bool, device=device)
    return InstanceData(**fields)


def instances_of_each_image(
    head, cls_scores, bbox_preds, kernel_preds, mask_feat: Tensor, score_factors, priors: Priors, metas, cfg, *options
) -> list[InstanceData]:
    """Instances by an own ``_predict_by_feat_single`` of RTMDet-Ins."""
    levels = split_levels(priors.boxes[0], priors.level_sizes, 0)
    results = []
    for b, meta in enumerate(metas):
        maps = (select_single_mlvl(outputs, b) for outputs in (cls_scores, bbox_preds, kernel_preds))
        factors = [None] * len(levels) if score_factors is None else select_single_mlvl(score_factors, b)
        results.append(head._predict_by_feat_single(*maps, mask_feat[b], factors, levels, meta, cfg, *options))
    return results


def hard_losses_of_each_image(head, flat: Sequence[Tensor], anchors: Tensor, targets: DenseTargets) -> tuple[list, ...]:
    """Losses by an own ``OHEMloss_by_feat_single`` of YOLACT."""
    columns = (*flat, anchors, *(getattr(targets, name) for name in joints.TARGETS))
    calls = [head.OHEMloss_by_feat_single(*image, avg_factor=targets.avg_factor) for image in zip(*columns)]
    return tuple(map(list, zip(*calls)))


def prototype_losses(head, mask_preds, segm_preds, gt_instances: Sequence, metas: list[dict], infos) -> dict:
    """Losses by an own ``_get_targets_single`` of YOLACT, lists by image."""
    lists = [masks.permute(1, 2, 0) for masks in mask_preds]
    cropped = head.crop_mask_preds(lists, metas, infos)
    masks, segms, total = [], [], 0
    for b, (preds, instances, meta, info) in enumerate(zip(cropped, gt_instances, metas, infos)):
        segm = None if segm_preds is None else segm_preds[b]
        preds, targets, segm_targets, count, boxes = head._get_targets_single(preds, segm, instances, info)
        total += count
        if count and targets is not None:
            used = torch.ones(1, count, dtype=torch.bool, device=preds.device)
            loss = head._mask_loss(preds[None], targets[None], boxes[None], used, [meta]) * count
        else:
            loss = preds.sum() * 0
        masks.append(loss)
        if segm is not None:
            known = segm_targets is not None
            wanted = segm_targets if known else torch.zeros_like(segm)
            segms.append(head._segm_loss(segm[None], wanted[None], [int(known)]) / len(metas))
    losses = dict(loss_mask=[loss / max(total, 1) for loss in masks])
    return dict(losses, loss_segm=segms) if segms else losses
