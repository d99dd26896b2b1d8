"""Targets of mask heads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from mmdet.structures.mask.structures import BaseInstanceMasks


def mask_target(
    pos_proposals_list: list[Tensor],
    pos_assigned_gt_inds_list: list[Tensor],
    gt_masks_list: list[BaseInstanceMasks],
    cfg: dict,
) -> Tensor:
    """Targets of a mask head for the positive RoIs of all images: (N, h, w) float, in their order.

    Args:
        cfg: ``mask_size`` (an int or (h, w)), and ``soft_mask_target`` to skip the threshold at 0.5.
    """
    targets = [
        mask_target_single(*args, cfg)
        for args in zip(pos_proposals_list, pos_assigned_gt_inds_list, gt_masks_list, strict=True)
    ]
    return torch.cat(targets) if targets else torch.zeros(0)


def mask_target_single(
    pos_proposals: Tensor, pos_assigned_gt_inds: Tensor, gt_masks: BaseInstanceMasks, cfg: dict
) -> Tensor:
    """:func:`mask_target` of one image."""
    device = pos_proposals.device
    size = _pair(cfg['mask_size'])
    if len(pos_proposals) == 0:
        return pos_proposals.new_zeros((0, *size))
    boxes = pos_proposals.detach().float().cpu().numpy()
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, gt_masks.width)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, gt_masks.height)
    targets = gt_masks.crop_and_resize(
        boxes, size, device=device, inds=pos_assigned_gt_inds.cpu().numpy(),
        binarize=not cfg.get('soft_mask_target', False),
    )  # fmt: skip
    return torch.from_numpy(targets.to_ndarray()).float().to(device)
