"""Distances of an anchor's centre to the four sides of its box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet.models.core import constant, widened
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor

from .base_bbox_coder import BaseBBoxCoder, check_pairs, clamp_boxes


@TASK_UTILS.register_module()
class TBLRBBoxCoder(BaseBBoxCoder):
    """Top, bottom, left, right in units of ``normalizer`` anchor heights and widths (FSAF, arXiv:1903.00621).

    Args:
        normalizer: One number, or one for each of the four.
        clip_border: Whether decoded boxes are clipped to the picture where its shape is given.
    """

    def __init__(self, normalizer: float | Sequence[float] = 4.0, clip_border: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.normalizer, self.clip_border = normalizer, clip_border

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Distances ``(..., 4)`` of ``bboxes (..., 4)`` to ``gt_bboxes (..., 4)``, both xyxy."""
        bboxes, gt_bboxes = get_box_tensor(bboxes), get_box_tensor(gt_bboxes)
        check_pairs(bboxes, gt_bboxes)
        return bboxes2tblr(bboxes, gt_bboxes, self.normalizer)

    def decode(self, bboxes: Tensor, pred_bboxes: Tensor, max_shape=None) -> Tensor:
        check_pairs(get_box_tensor(bboxes), pred_bboxes)
        boxes = tblr2bboxes(
            get_box_tensor(bboxes), pred_bboxes, self.normalizer, max_shape=max_shape, clip_border=self.clip_border
        )
        return HorizontalBoxes(boxes) if self.use_box_type else boxes


@TASK_UTILS.register_module()
class AnchorPointBBoxCoder(BaseBBoxCoder):
    """Left, top, right, bottom of an anchor's centre in units of the stride (ATSS, arXiv:1912.02424, Sec. 3.2).

    Predictions go through ReLU, so a predictor should start in the positive: ATSS starts its bias at 4, the half side
    of an anchor of ``scale`` 8.

    Args:
        scale: Side of an anchor in strides; that of the other anchors where there are several at a location.
        clip_border: Whether decoded boxes are clipped to the picture where its shape is given.
    """

    def __init__(self, scale: float = 8.0, clip_border: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.scale, self.clip_border = scale, clip_border

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Distances ``(..., 4)`` of ``bboxes (..., 4)`` to ``gt_bboxes (..., 4)``, both xyxy."""
        center, side = _center_and_side(get_box_tensor(bboxes))
        boxes = get_box_tensor(gt_bboxes)
        return torch.cat([(center - boxes[..., :2]) / side, (boxes[..., 2:] - center) / side], -1) * self.scale

    def decode(self, bboxes: Tensor, pred_bboxes: Tensor, max_shape=None) -> Tensor:
        center, side = _center_and_side(get_box_tensor(bboxes))
        low, high = (widened(pred_bboxes).clamp(min=0) / self.scale).unflatten(-1, (2, 2)).unbind(-2)
        boxes = torch.cat([center - low * side, center + high * side], -1)
        boxes = clamp_boxes(boxes, max_shape) if self.clip_border else boxes
        return HorizontalBoxes(boxes) if self.use_box_type else boxes


def _center_and_side(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and sides ``(..., 2)``."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def bboxes2tblr(
    priors: Tensor, gts: Tensor, normalizer: float | Sequence[float] = 4.0, normalize_by_wh: bool = True
) -> Tensor:
    """Boxes xyxy ``(..., 4)`` -> distances from the centre of the prior to top, bottom, left and right, over
    ``normalizer``."""
    center, side = _center_and_side(priors)
    distances = torch.stack([center - gts[..., :2], gts[..., 2:] - center], -1)  # (..., 2 axes, 2 sides)
    if normalize_by_wh:
        distances = distances / side[..., None]
    return distances.flip(-2).flatten(-2) / constant(normalizer, distances)


def tblr2bboxes(
    priors: Tensor,
    tblr: Tensor,
    normalizer: float | Sequence[float] = 4.0,
    normalize_by_wh: bool = True,
    max_shape=None,
    clip_border: bool = True,
) -> Tensor:
    """Inverse of :func:`bboxes2tblr`; ``max_shape`` is the height and width that boxes are clipped to."""
    tblr, (center, side) = widened(tblr), _center_and_side(priors)
    distances = (tblr * constant(normalizer, tblr)).unflatten(-1, (2, 2)).flip(-2)  # (..., 2 axes, 2 sides)
    if normalize_by_wh:
        distances = distances * side[..., None]
    boxes = torch.cat([center - distances[..., 0], center + distances[..., 1]], -1)
    return clamp_boxes(boxes, max_shape) if clip_border else boxes
