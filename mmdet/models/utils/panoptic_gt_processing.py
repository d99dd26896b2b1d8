from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def preprocess_panoptic_gt(
    gt_labels: Tensor, gt_masks: Any, gt_semantic_seg: Tensor | None, num_things: int, num_stuff: int
) -> tuple[Tensor, Tensor]:
    """Ground truth of an image for heads that treat things and stuff alike: a stuff class is one more instance.

    Args:
        gt_labels: Labels of the things, (G,).
        gt_masks: Their instance masks.
        gt_semantic_seg: Class of each pixel, (1, H, W): things, then stuff; None for instances alone.

    Returns:
        Labels (N,) and masks (N, H, W), both long; things come first, then the stuff in order of label.
    """
    masks = gt_masks.to_tensor(dtype=torch.bool, device=gt_labels.device)
    if gt_semantic_seg is None:
        return gt_labels, masks.long()
    classes = gt_semantic_seg.squeeze(0)
    stuff = classes.unique()
    stuff = stuff[(stuff >= num_things) & (stuff < num_things + num_stuff)]
    masks = torch.cat([masks, classes == stuff[:, None, None]])
    return torch.cat([gt_labels, stuff.to(gt_labels.dtype)]), masks.long()
