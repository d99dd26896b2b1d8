"""The way through methods that research code overrides, of heads whose anchors are predicted.

As :mod:`joints`, which has what all heads share: guided anchoring, and the stages of Cascade RPN.

Letters: B images, P anchors of all levels, A approximate anchors of a guided one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    Priors,
    map_sizes,
    select_single_mlvl,
    split_levels,
    unmap,
)

from .joints import TARGETS, stack_targets


def guided_by_image(
    head, squares: Priors, shape_preds: Sequence[Tensor], loc_preds: Sequence[Tensor], use_loc_filter: bool
) -> Priors:
    """Guided anchors by an own ``_get_guided_anchors_single``."""
    boxes, masks = [], []
    levels = list(zip(split_levels(squares.boxes[0], squares.level_sizes, 0), shape_preds, loc_preds))
    for b in range(len(loc_preds[0])):
        image = [
            head._get_guided_anchors_single(level, shapes[b], places[b], use_loc_filter=use_loc_filter)
            for level, shapes, places in levels
        ]
        boxes.append(torch.cat([unmap(anchors, len(mask), mask) for anchors, mask in image]))
        masks.append(torch.cat([mask for _, mask in image]))
    return Priors(torch.stack(boxes), torch.stack(masks), squares.level_sizes, squares.strides)


def own_guided_anchors(head, shape_preds: Sequence[Tensor], loc_preds: Sequence[Tensor], metas: list[dict]) -> Priors:
    """Guided anchors for predictions by an own ``get_anchors``."""
    sizes, device, filtered = map_sizes(loc_preds), loc_preds[0].device, not head.training
    lists = head.get_anchors(sizes, shape_preds, loc_preds, metas, use_loc_filter=filtered, device=device)[1:]
    boxes = [torch.cat([unmap(level, len(mask), mask) for level, mask in zip(*image)]) for image in zip(*lists)]
    masks = torch.stack([torch.cat(image) for image in lists[1]])
    return Priors(torch.stack(boxes), masks.bool(), [len(level) for level in lists[1][0]])


def guided_detections(
    head, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor], guided: Priors, metas: list[dict], cfg, rescale
) -> list:
    """Detections by an own ``_predict_by_feat_single`` of guided anchors."""
    results = []
    for b, meta in enumerate(metas):
        levels = (split_levels(values[b], guided.level_sizes, 0) for values in (guided.boxes, guided.valid))
        anchors, masks = levels
        results.append(
            head._predict_by_feat_single(
                cls_scores=select_single_mlvl(cls_scores, b),
                bbox_preds=select_single_mlvl(bbox_preds, b),
                mlvl_anchors=[level[mask] for level, mask in zip(anchors, masks)],
                mlvl_masks=masks,
                img_meta=meta,
                cfg=cfg,
                rescale=rescale,
            )
        )
    return results


def shape_targets(
    head, squares: Priors, approxs: Priors, gt: PaddedGT, metas: list[dict]
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Squares, boxes and weights ``(B, P, 4)`` by an own ``_ga_shape_target_single``, and their normaliser."""
    singles = []
    boxes = approxs.boxes.expand(len(metas), -1, -1)
    for b, image in enumerate(zip(boxes, squares.valid, squares.expanded())):
        singles.append(head._ga_shape_target_single(*image, gt.instances[b], gt.ignored_instances[b], metas[b]))
    columns = tuple(torch.stack([single[i] for single in singles]) for i in range(3))
    return columns, columns[0].new_tensor(sum(single[5].avg_factor for single in singles))


def region_targets_of_each_image(
    head, priors: Priors, gt: PaddedGT, metas: list[dict], map_sizes: Sequence[tuple]
) -> DenseTargets:
    """Targets by an own ``_region_targets_single`` of a stage of Cascade RPN."""
    singles = [
        head._region_targets_single(
            *image, gt.instances[b], metas[b], gt.ignored_instances[b], map_sizes, priors.level_sizes
        )
        for b, image in enumerate(zip(priors.expanded(), priors.valid))
    ]
    return stack_targets(singles, head.num_classes, priors.level_sizes)


def assign_regions(
    head, priors: Priors, gt: PaddedGT, metas: list[dict], map_sizes: Sequence[tuple], **options
) -> Assignment:
    """Assignment by an own ``assign`` of a `RegionAssigner`."""
    inds = []
    for b, (boxes, valid) in enumerate(zip(priors.expanded(), priors.valid)):
        image = InstanceData(priors=boxes, valid_flags=valid)
        levels = dict(featmap_sizes=map_sizes, num_level_anchors=priors.level_sizes, **options)
        border = head.train_cfg.get('allowed_border', -1)
        result = head.assigner.assign(
            image, gt.instances[b], metas[b], gt_instances_ignore=None, allowed_border=border, **levels
        )
        inds.append(result.gt_inds)
    return Assignment(torch.stack(inds))


def stage_losses(
    head, cls_scores: Sequence, bbox_preds: Sequence[Tensor], anchors: Tensor, targets: DenseTargets, avg_factor
) -> tuple[list, ...]:
    """The same by an own ``loss_by_feat_single`` of a stage of Cascade RPN, level by level."""
    fields = anchors, *(getattr(targets, name) for name in TARGETS)
    levels = zip(cls_scores, bbox_preds, *(split_levels(field, targets.level_sizes) for field in fields))
    return tuple(map(list, zip(*(head.loss_by_feat_single(*level, avg_factor=avg_factor) for level in levels))))


def proposals_of_each_image(
    head, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor], priors: Priors, metas: list[dict], cfg, rescale
) -> list:
    """Proposals by an own ``_predict_by_feat_single`` of a stage of Cascade RPN."""
    results = []
    for b, (boxes, meta) in enumerate(zip(priors.boxes.expand(len(metas), -1, -1), metas)):
        anchors = split_levels(boxes, priors.level_sizes, 0)
        maps = select_single_mlvl(cls_scores, b), select_single_mlvl(bbox_preds, b)
        results.append(head._predict_by_feat_single(*maps, anchors, meta, cfg, rescale))
    return results
