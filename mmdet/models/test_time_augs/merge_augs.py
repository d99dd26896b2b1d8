"""Mapping results of augmented images back to the original image, and averaging or joining them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.structures.bbox import bbox_mapping_back

from .det_tta import unflip


def _mapped_back(bboxes: Tensor, meta: dict) -> Tensor:
    flip, direction = meta.get('flip', False), meta.get('flip_direction')
    return bbox_mapping_back(bboxes, meta['img_shape'], meta['scale_factor'], flip, direction or 'horizontal')


def merge_aug_proposals(aug_proposals: Sequence[Tensor], img_metas: Sequence[dict], cfg: dict) -> Tensor:
    """Proposals (N, 5) of all versions of an image in one set, after ``cfg.nms``; ``cfg.max_per_img`` at most."""
    from mmdet.ops import nms

    mapped = [
        torch.cat([_mapped_back(proposals[:, :4], meta), proposals[:, 4:]], 1)
        for proposals, meta in zip(aug_proposals, img_metas, strict=True)
    ]
    proposals = torch.cat(mapped)
    dets, _ = nms(proposals[:, :4].contiguous(), proposals[:, 4].contiguous(), cfg['nms']['iou_threshold'])
    return dets[dets[:, 4].argsort(descending=True)][: cfg['max_per_img']]


def merge_aug_bboxes(
    aug_bboxes: Sequence[Tensor],
    aug_scores: Sequence[Tensor] | None,
    img_metas: Sequence[Sequence[dict]],
    rcnn_test_cfg: dict | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Mean of the boxes (N, 4 * classes) that the versions of an image give for the same proposals, and of the scores.

    Args:
        img_metas: For each version a list of one dict.
    """
    mapped = [
        _mapped_back(bboxes.reshape(-1, 4), meta[0]).reshape(bboxes.shape)
        for bboxes, meta in zip(aug_bboxes, img_metas, strict=True)
    ]
    bboxes = torch.stack(mapped).mean(0)
    return bboxes if aug_scores is None else (bboxes, merge_aug_scores(aug_scores))


def merge_aug_results(
    aug_batch_results: Sequence[Sequence[InstanceData]], aug_batch_img_metas: Sequence[Sequence[dict]]
) -> list[InstanceData]:
    """For each image the instances of all its versions, mapped back; both arguments are ``[version][image]``."""
    batch = []
    for versions, metas in zip(
        zip(*aug_batch_results, strict=True), zip(*aug_batch_img_metas, strict=True), strict=True
    ):
        mapped = []
        for results, meta in zip(versions, metas, strict=True):
            results = results.new()
            results.bboxes = _mapped_back(results.bboxes, meta)
            mapped.append(results)
        batch.append(InstanceData.cat(mapped))
    return batch


def merge_aug_scores(aug_scores: Sequence[Tensor]) -> Tensor:
    """Mean of the scores of all versions."""
    return torch.stack(list(aug_scores)).mean(0)


def merge_aug_masks(
    aug_masks: Sequence[Tensor], img_metas: dict | Sequence[dict], weights: Sequence[float] | None = None
) -> Tensor:
    """Weighted mean of the masks (N, H, W) of all versions.

    Args:
        img_metas: The flip of each version, or one for all.
    """
    metas = [img_metas] * len(aug_masks) if isinstance(img_metas, dict) else img_metas
    masks = torch.stack([unflip(mask, meta) for mask, meta in zip(aug_masks, metas, strict=True)])
    if weights is None:
        return masks.mean(0)
    if len(weights) != len(aug_masks):
        raise UserValueError(f'{len(aug_masks)} masks, but {len(weights)} weights.')
    weight = masks.new_tensor(weights)
    return torch.einsum('a,a...->...', weight, masks) / weight.sum()
