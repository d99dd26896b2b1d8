"""The box coder of MMDetection 1.x, where a box from pixel 0 to pixel 9 is ten pixels wide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor

from .base_bbox_coder import BaseBBoxCoder, clip_to_middles


@TASK_UTILS.register_module()
class LegacyDeltaXYWHBBoxCoder(BaseBBoxCoder):
    """Deltas as `DeltaXYWHBBoxCoder`'s, of sides that are one pixel longer.

    Args:
        target_means, target_stds: By which deltas are normalised.
    """

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.means, self.stds = target_means, target_stds

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Deltas ``(..., 4)`` of ``gt_bboxes (..., 4)`` relative to ``bboxes (..., 4)``."""
        return legacy_bbox2delta(get_box_tensor(bboxes), get_box_tensor(gt_bboxes), self.means, self.stds)

    def decode(
        self, bboxes: Tensor, pred_bboxes: Tensor, max_shape: Any = None, wh_ratio_clip: float = 16 / 1000
    ) -> Tensor:
        """Boxes of deltas, as :func:`legacy_delta2bbox`."""
        boxes = legacy_delta2bbox(get_box_tensor(bboxes), pred_bboxes, self.means, self.stds, max_shape, wh_ratio_clip)
        return HorizontalBoxes(boxes) if self.use_box_type else boxes


def legacy_bbox2delta(
    proposals: Tensor,
    gt: Tensor,
    means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Normalised deltas ``(..., 4)`` of boxes relative to proposals, both ``(..., 4)``."""
    (center, side), (own_center, own_side) = (_center_and_side(boxes.float()) for boxes in (proposals, gt))
    deltas = torch.cat([(own_center - center) / side, (own_side / side).log()], -1)
    return torch.stack([(d - m) / s for d, m, s in zip(deltas.unbind(-1), means, stds)], -1)


def legacy_delta2bbox(
    rois: Tensor,
    deltas: Tensor,
    means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    max_shape: Any = None,
    wh_ratio_clip: float = 16 / 1000,
) -> Tensor:
    """The inverse, of deltas ``(..., 4)`` or, class by class, ``(..., C * 4)``.

    Args:
        max_shape: Height and width of the picture, or of each picture of a batch: the last pixel is ``side - 1``.
        wh_ratio_clip: Sides change by at most this factor or its inverse.

    The half pixel that the longer sides would ask for is left out, as in all versions since 2.0.
    """
    center, side = (value[..., None] for value in _center_and_side(rois.float()))  # (..., 2, 1)
    parts = deltas.float().unflatten(-1, (-1, 4)).unbind(-1)
    dx, dy, dw, dh = (d * s + m for d, s, m in zip(parts, stds, means))  # (..., C)
    limit = abs(math.log(wh_ratio_clip))
    middle = center + side * torch.stack([dx, dy], -2)  # (..., 2, C)
    half = side * torch.stack([dw, dh], -2).clamp(-limit, limit).exp() / 2
    boxes = torch.cat([middle - half, middle + half], -2).transpose(-1, -2)  # (..., C, 4)
    return (boxes if max_shape is None else clip_to_middles(boxes, max_shape)).flatten(-2)


def _center_and_side(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low + 1
