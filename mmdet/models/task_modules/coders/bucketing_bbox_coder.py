"""Sides of boxes by the bucket they lie in, and their place in it (SABL, arXiv:1912.04260, Sec. 3.2)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core.ordering import stable_topk
from mmdet.ops.one_hot import one_hot
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor

from .base_bbox_coder import BaseBBoxCoder, clip_to_middles


@TASK_UTILS.register_module()
class BucketingBBoxCoder(BaseBBoxCoder):
    """Each side of a prior, grown by a factor, has buckets from its outside to the centre.

    The sides come in the order left, right, top, bottom; S is half of ``num_buckets``, rounded up.

    Args:
        num_buckets: Buckets across a prior.
        scale_factor: Growth of the priors.
        offset_topk: Nearest buckets that learn their offset, the first always, the others up to ``offset_upperbound``
            widths away.
        cls_ignore_neighbor: Whether buckets less than one width away are neither right nor wrong.
        clip_border: Whether decoded boxes are clipped to the middles of the outer pixels of the picture.
    """

    def __init__(
        self,
        num_buckets: int,
        scale_factor: float,
        offset_topk: int = 2,
        offset_upperbound: float = 1.0,
        cls_ignore_neighbor: bool = True,
        clip_border: bool | None = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_buckets, self.scale_factor, self.offset_topk = num_buckets, scale_factor, offset_topk
        self.offset_upperbound, self.cls_ignore_neighbor = offset_upperbound, cls_ignore_neighbor
        self.clip_border = clip_border
        self.side_num = math.ceil(num_buckets / 2)
        if not 0 < offset_topk <= self.side_num:
            raise UserValueError(f'offset_topk={offset_topk} must be from 1 to {self.side_num}, half of num_buckets')

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Targets of boxes, as :func:`bbox2bucket`."""
        return bbox2bucket(
            get_box_tensor(bboxes),
            get_box_tensor(gt_bboxes),
            self.num_buckets,
            self.scale_factor,
            self.offset_topk,
            self.offset_upperbound,
            self.cls_ignore_neighbor,
        )

    def decode(  # type: ignore[override]  # two predictions, and a confidence
        self, bboxes: Tensor, pred_bboxes: tuple[Tensor, Tensor], max_shape: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Boxes of logits and offsets of the buckets, as :func:`bucket2bbox`."""
        options = self.num_buckets, self.scale_factor, max_shape, self.clip_border is not False
        boxes, confidence = bucket2bbox(get_box_tensor(bboxes), *pred_bboxes, *options)
        return HorizontalBoxes(boxes) if self.use_box_type else boxes, confidence


def bbox2bucket(
    proposals: Tensor,
    gt: Tensor,
    num_buckets: int,
    scale_factor: float,
    offset_topk: int = 2,
    offset_upperbound: float = 1.0,
    cls_ignore_neighbor: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Targets of boxes ``(..., 4)``; see :class:`BucketingBBoxCoder` for the settings.

    Returns:
        Offsets and their weights, labels and weights of the buckets, each ``(..., 4 * S)``.
    """
    buckets, width = _buckets(proposals, num_buckets, scale_factor)
    offsets = (buckets - _swap_middle(gt)[..., None]) / width[..., None]  # (..., 4, S)
    distance = offsets.abs()
    nearest, index = stable_topk(distance, offset_topk, largest=False)
    near = (nearest < offset_upperbound).to(offsets.dtype)
    near[..., 0] = 1
    weights = torch.zeros_like(offsets).scatter(-1, index, near)
    labels = one_hot(index[..., 0], buckets.shape[-1], offsets.dtype)
    counted = ~((distance < 1) & (labels == 0)) if cls_ignore_neighbor else torch.ones_like(labels)
    return offsets.flatten(-2), weights.flatten(-2), labels.flatten(-2), counted.to(offsets.dtype).flatten(-2)


def bucket2bbox(
    proposals: Tensor,
    cls_preds: Tensor,
    offset_preds: Tensor,
    num_buckets: int,
    scale_factor: float = 1.0,
    max_shape: Any = None,
    clip_border: bool = True,
) -> tuple[Tensor, Tensor]:
    """Boxes ``(..., 4)`` of logits and offsets ``(..., 4 * S)``, and how sure they are ``(...,)``.

    Args:
        max_shape: Height and width of the picture, or of each picture of a batch.
    """
    buckets, width = _buckets(proposals.float(), num_buckets, scale_factor)
    logits, offsets = (pred.float().view(buckets.shape) for pred in (cls_preds, offset_preds))
    top, index = logits.softmax(-1).topk(2, -1)
    best = index[..., :1]
    boxes = _swap_middle((buckets.gather(-1, best) - offsets.gather(-1, best) * width[..., None])[..., 0])
    if clip_border and max_shape is not None:
        boxes = clip_to_middles(boxes, max_shape)
    neighbours = (index[..., 0] - index[..., 1]).abs() == 1  # the two best together
    return boxes, (top[..., 0] + top[..., 1] * neighbours).mean(-1)


def generat_buckets(proposals: Tensor, num_buckets: int, scale_factor: float = 1.0) -> tuple[Tensor, ...]:
    """Width and height of the buckets ``(n,)``, and their centres ``(n, S)`` at the left, right, top and bottom of
    proposals ``(n, 4)``."""
    buckets, width = _buckets(proposals, num_buckets, scale_factor)
    return width[..., 0], width[..., 2], *buckets.unbind(-2)


def _buckets(boxes: Tensor, num_buckets: int, scale_factor: float) -> tuple[Tensor, Tensor]:
    """Centres of the buckets ``(..., 4, S)``, from the outside, and their width ``(..., 4)`` at each side."""
    low, high = boxes[..., :2], boxes[..., 2:]
    center, half = (low + high) / 2, (high - low) / 2 * scale_factor
    width = half * 2 / num_buckets
    step = torch.arange(math.ceil(num_buckets / 2), device=boxes.device, dtype=boxes.dtype) + 0.5
    inside = step * width[..., None]  # (..., axis, S)
    first, last = (center - half)[..., None] + inside, (center + half)[..., None] - inside
    return torch.stack([first, last], -2).flatten(-3, -2), width.repeat_interleave(2, -1)


def _swap_middle(values: Tensor) -> Tensor:
    """``(..., 4)`` left, top, right, bottom as left, right, top, bottom, and the other way round."""
    first, second, third, fourth = values.unbind(-1)
    return torch.stack([first, third, second, fourth], -1)
