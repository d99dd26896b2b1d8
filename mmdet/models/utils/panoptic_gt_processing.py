from __future__ import annotations

from typing import Any

from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import things_and_stuff


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
    things = InstanceData(labels=gt_labels, masks=gt_masks)
    (image,) = things_and_stuff([things], [gt_semantic_seg], num_things, num_stuff)
    return image.labels, image.masks.long()
