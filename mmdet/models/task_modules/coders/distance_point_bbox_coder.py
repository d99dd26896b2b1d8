"""Distances of a point to the four sides of its box (FCOS, Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes

from .base_bbox_coder import BaseBBoxCoder, check_pairs, clamp_boxes


@TASK_UTILS.register_module()
class DistancePointBBoxCoder(BaseBBoxCoder):
    """left, top, right, bottom in the units of the points.

    Args:
        clip_border: Whether decoded boxes are clipped to the picture where its shape is given.
    """

    def __init__(self, clip_border: bool | None = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.clip_border = clip_border

    def encode(self, points: Tensor, gt_bboxes: Tensor, max_dis: float | None = None, eps: float = 0.1) -> Tensor:
        """Distances of ``points (..., 2)`` to ``gt_bboxes (..., 4)``, within ``[0, max_dis - eps]`` if given."""
        gt_bboxes = gt_bboxes.tensor if isinstance(gt_bboxes, BaseBoxes) else gt_bboxes
        if points.shape != (*gt_bboxes.shape[:-1], 2) or gt_bboxes.shape[-1] != 4:
            check_pairs(points, gt_bboxes, prior_size=2)
        x1, y1, x2, y2 = gt_bboxes.unbind(-1)
        x, y = points[..., 0], points[..., 1]
        distances = torch.stack([x - x1, y - y1, x2 - x, y2 - y], -1)
        return distances if max_dis is None else distances.clamp(0, max_dis - eps)

    def decode(self, points: Tensor, pred_bboxes: Tensor, max_shape=None) -> Tensor:
        """xyxy boxes of distances ``(..., 4)`` around ``points (..., 2)``; ``max_shape`` as in :func:`clamp_boxes`."""
        if points.shape != (*pred_bboxes.shape[:-1], 2) or pred_bboxes.shape[-1] != 4:
            check_pairs(points, pred_bboxes, prior_size=2)
        x, y = points[..., 0], points[..., 1]
        left, top, right, bottom = pred_bboxes.unbind(-1)
        boxes = torch.stack([x - left, y - top, x + right, y + bottom], -1)
        if self.clip_border is not False and max_shape is not None:
            boxes = clamp_boxes(boxes, max_shape)
        return HorizontalBoxes(boxes) if self.use_box_type else boxes
