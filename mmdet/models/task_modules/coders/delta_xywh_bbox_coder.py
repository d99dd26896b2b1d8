"""Centre offsets and log sizes relative to an anchor (R-CNN, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet.models.core.precision import HALF
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes, with_ends_moved

from .base_bbox_coder import BaseBBoxCoder, check_pairs, clamp_boxes


@TASK_UTILS.register_module()
class DeltaXYWHBBoxCoder(BaseBBoxCoder):
    """``dx = (x - xa) / wa``, ``dw = log(w / wa)`` and so for y and h, then ``(d - mean) / std``.

    Args:
        clip_border: Whether decoded boxes are clipped to the picture where its shape is given.
        add_ctr_clamp: Whether a decoded centre may lie at most ``ctr_clamp`` pixels from the anchor's (YOLOF).
    """

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        clip_border: bool = True,
        add_ctr_clamp: bool = False,
        ctr_clamp: int = 32,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.means, self.stds = tuple(target_means), tuple(target_stds)
        self.clip_border, self.add_ctr_clamp, self.ctr_clamp = clip_border, add_ctr_clamp, ctr_clamp

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Deltas of ``gt_bboxes (..., 4)`` relative to ``bboxes (..., 4)``, both xyxy with positive sides."""
        bboxes, gt_bboxes = (boxes.tensor if isinstance(boxes, BaseBoxes) else boxes for boxes in (bboxes, gt_bboxes))
        if bboxes.shape != gt_bboxes.shape or bboxes.shape[-1] != 4:
            check_pairs(bboxes, gt_bboxes)
        return bbox2delta(bboxes, gt_bboxes, self.means, self.stds)

    def decode(
        self, bboxes: Tensor, pred_bboxes: Tensor, max_shape=None, wh_ratio_clip: float | None = 16 / 1000
    ) -> Tensor:
        """Boxes of deltas ``(..., 4)`` or, class by class, ``(..., C * 4)``.

        Args:
            max_shape: (H, W) of the picture, or of each picture of a batch ``(B, N, 4)``.
            wh_ratio_clip: Sides change by at most this factor or its inverse.
        """
        bboxes = bboxes.tensor if isinstance(bboxes, BaseBoxes) else bboxes
        if bboxes.shape != pred_bboxes.shape or bboxes.shape[-1] != 4:
            check_pairs(bboxes, pred_bboxes)
        boxes = delta2bbox(
            bboxes,
            pred_bboxes,
            self.means,
            self.stds,
            max_shape,
            wh_ratio_clip,
            self.clip_border,
            self.add_ctr_clamp,
            self.ctr_clamp,
        )
        if self.use_box_type:
            return HorizontalBoxes(boxes.unflatten(-1, (-1, 4)).squeeze(-2))
        return boxes


@TASK_UTILS.register_module()
class DeltaXYWHBBoxCoderForGLIP(DeltaXYWHBBoxCoder):
    """Decoded boxes end with their last pixel, not after it, as the published weights of GLIP were trained."""

    def decode(
        self, bboxes: Tensor, pred_bboxes: Tensor, max_shape=None, wh_ratio_clip: float | None = 16 / 1000
    ) -> Tensor:
        """As :meth:`DeltaXYWHBBoxCoder.decode`, clipped to the last pixel of the picture."""
        bboxes = bboxes.tensor if isinstance(bboxes, BaseBoxes) else bboxes
        options = self.clip_border, self.add_ctr_clamp, self.ctr_clamp
        return delta2bbox_glip(bboxes, pred_bboxes, self.means, self.stds, max_shape, wh_ratio_clip, *options)


def delta2bbox_glip(
    rois: Tensor,
    deltas: Tensor,
    means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    max_shape=None,
    wh_ratio_clip: float | None = 16 / 1000,
    clip_border: bool = True,
    add_ctr_clamp: bool = False,
    ctr_clamp: float = 32,
) -> Tensor:
    """As :func:`delta2bbox`, with boxes that end with their last pixel."""
    boxes = delta2bbox(rois, deltas, means, stds, None, wh_ratio_clip, False, add_ctr_clamp, ctr_clamp)
    boxes = with_ends_moved(boxes.unflatten(-1, (-1, 4)), -1).flatten(-2)
    return clamp_boxes(boxes, _less_one(max_shape)) if clip_border and max_shape is not None else boxes


def _less_one(shape):
    return [_less_one(side) for side in shape] if isinstance(shape, (list, tuple)) else shape - 1


def bbox2delta(
    proposals: Tensor,
    gt: Tensor,
    means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Boxes xyxy ``(..., 4)`` -> shifts of the centre in sides of the proposal and logs of the ratios of sides,
    normalised."""
    px1, py1, px2, py2 = proposals.float().unbind(-1)
    gx1, gy1, gx2, gy2 = gt.float().unbind(-1)
    pw, ph, gw, gh = px2 - px1, py2 - py1, gx2 - gx1, gy2 - gy1
    deltas = (
        ((gx1 + gx2) * 0.5 - (px1 + px2) * 0.5) / pw,
        ((gy1 + gy2) * 0.5 - (py1 + py2) * 0.5) / ph,
        torch.log(gw / pw),
        torch.log(gh / ph),
    )
    return torch.stack([(d - m) / s for d, m, s in zip(deltas, means, stds)], -1)


def delta2bbox(
    rois: Tensor,
    deltas: Tensor,
    means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    max_shape=None,
    wh_ratio_clip: float | None = 16 / 1000,
    clip_border: bool = True,
    add_ctr_clamp: bool = False,
    ctr_clamp: float = 32,
) -> Tensor:
    """Inverse of :func:`bbox2delta`.

    Args:
        rois: ``(..., N, 4)`` xyxy.
        deltas: ``(..., N, 4 * C)``.
        max_shape: Height and width that boxes are clipped to, one for all or one for each image of a batch.
        wh_ratio_clip: Sides change by this factor, or its inverse, at most.
        add_ctr_clamp: Centres move by ``ctr_clamp`` pixels at most, and sides shrink without limit (YOLOF).
    """
    deltas = deltas.float() if deltas.dtype in HALF else deltas
    dx, dy, dw, dh = (
        d * s + m for d, s, m in zip(deltas.unflatten(-1, (-1, 4)).unbind(-1), stds, means)
    )  # each (..., C)
    x1, y1, x2, y2 = rois[..., None].unbind(-2)
    width, height = x2 - x1, y2 - y1
    shift_x, shift_y = dx * width, dy * height
    limit = abs(math.log(wh_ratio_clip)) if wh_ratio_clip is not None else math.inf
    if add_ctr_clamp:
        shift_x, shift_y = shift_x.clamp(-ctr_clamp, ctr_clamp), shift_y.clamp(-ctr_clamp, ctr_clamp)
        dw, dh = dw.clamp(max=limit), dh.clamp(max=limit)
    else:
        dw, dh = dw.clamp(-limit, limit), dh.clamp(-limit, limit)
    cx, cy = (x1 + x2) * 0.5 + shift_x, (y1 + y2) * 0.5 + shift_y
    half_w, half_h = width * dw.exp() * 0.5, height * dh.exp() * 0.5
    boxes = torch.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], -1).flatten(-2)
    return clamp_boxes(boxes, max_shape) if clip_border and max_shape is not None else boxes
