"""Boxes as offsets in a cell and logarithms of sides (YOLOv2, arXiv:1612.08242, Sec. 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor

from .base_bbox_coder import BaseBBoxCoder


@TASK_UTILS.register_module()
class YOLOBBoxCoder(BaseBBoxCoder):
    """The centre from 0 to 1 in its cell, where 0.5 is the anchor's centre, and sides in logarithms of the anchor's.

    Args:
        eps: Least distance of encoded centres from 0 and 1, and least ratio of sides.
    """

    def __init__(self, eps: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.eps = eps

    # The stride is an argument of this coder alone.
    def encode(self, bboxes: Tensor, gt_bboxes: Tensor, stride: Tensor | int) -> Tensor:  # type: ignore[override]
        """``(..., 4)`` of anchors and boxes ``(..., 4)``; ``stride`` in pixels, ``(..., 1)`` where it is a tensor."""
        bboxes, gt_bboxes = get_box_tensor(bboxes), get_box_tensor(gt_bboxes)
        anchor, own = bboxes[..., 2:] - bboxes[..., :2], gt_bboxes[..., 2:] - gt_bboxes[..., :2]
        offset = (gt_bboxes[..., :2] + gt_bboxes[..., 2:] - bboxes[..., :2] - bboxes[..., 2:]) / 2
        center = (offset / stride + 0.5).clamp(self.eps, 1 - self.eps)
        return torch.cat([center, (own / anchor).clamp(min=self.eps).log()], -1)

    def decode(self, bboxes: Tensor, pred_bboxes: Tensor, stride: Tensor | int) -> Tensor:  # type: ignore[override]
        """xyxy boxes ``(..., 4)`` of anchors and predictions ``(..., 4)``, whose centres are from 0 to 1 already."""
        bboxes = get_box_tensor(bboxes)
        center = (bboxes[..., :2] + bboxes[..., 2:]) / 2 + (pred_bboxes[..., :2] - 0.5) * stride
        half = (bboxes[..., 2:] - bboxes[..., :2]) / 2 * pred_bboxes[..., 2:].exp()
        boxes = torch.cat([center - half, center + half], -1)
        return HorizontalBoxes(boxes) if self.use_box_type else boxes
