"""Overlaps of axis-aligned boxes, one coordinate at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserValueError

from .base_boxes import BaseBoxes


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = 'iou', is_aligned: bool = False, eps: float = 1e-6
) -> Tensor:
    """IoU, IoF (intersection over the first area) or GIoU (arXiv:1902.09630, Algorithm 1) of xyxy boxes.

    Half-precision boxes are computed in float32, since areas overflow above 256 x 256 pixels, and the result is cast
    back. No temporary is larger than the result.

    Args:
        bboxes1: (..., M, 4).
        bboxes2: (..., N, 4) with the same leading dimensions.
        is_aligned: Compare box ``i`` with box ``i`` (M = N) in place of all pairs.
        eps: Lower bound of every denominator.

    Returns:
        (..., M, N), or (..., M) when aligned.
    """
    if mode not in ('iou', 'iof', 'giou'):
        raise UserValueError(f'mode of bbox_overlaps must be iou, iof or giou, not {mode!r}')
    bboxes1, bboxes2 = _rows_of_four(bboxes1), _rows_of_four(bboxes2)
    if bboxes1.shape[:-2] != bboxes2.shape[:-2]:
        raise UserValueError(f'leading dimensions differ: {tuple(bboxes1.shape)} and {tuple(bboxes2.shape)}')
    rows, cols = bboxes1.shape[-2], bboxes2.shape[-2]
    if is_aligned and rows != cols:
        raise UserValueError(f'aligned overlaps need as many boxes on both sides, not {rows} and {cols}')
    batch = bboxes1.shape[:-2]
    if rows * cols == 0:
        return bboxes1.new_zeros((*batch, rows) if is_aligned else (*batch, rows, cols))

    out_dtype = bboxes1.dtype if bboxes1.is_floating_point() else torch.get_default_dtype()
    bboxes1, bboxes2 = _at_least_float32(bboxes1), _at_least_float32(bboxes2)
    left1, top1, right1, bottom1 = columns1 = bboxes1.unbind(-1)
    left2, top2, right2, bottom2 = columns2 = bboxes2.unbind(-1)
    if not is_aligned:
        left1, top1, right1, bottom1 = (_packed(column)[..., None] for column in columns1)  # (..., M, 1)
        left2, top2, right2, bottom2 = (_packed(column).unsqueeze(-2) for column in columns2)  # (..., 1, N)
    area1 = (right1 - left1) * (bottom1 - top1)

    width = torch.minimum(right1, right2).sub_(torch.maximum(left1, left2)).clamp_(min=0)
    height = torch.minimum(bottom1, bottom2).sub_(torch.maximum(top1, top2)).clamp_(min=0)
    overlap = width.mul_(height)
    del width, height
    if mode == 'iof':
        return (overlap / area1.clamp(min=eps)).to(out_dtype)
    area2 = (right2 - left2) * (bottom2 - top2)
    union = (area1 + area2).sub_(overlap).clamp_(min=eps)
    iou = overlap.div_(union)
    if mode == 'iou':
        return iou.to(out_dtype)
    width = torch.maximum(right1, right2).sub_(torch.minimum(left1, left2)).clamp_(min=0)
    height = torch.maximum(bottom1, bottom2).sub_(torch.minimum(top1, top2)).clamp_(min=0)
    enclosing = width.mul_(height).clamp_(min=eps)
    return iou.sub_((enclosing - union).div_(enclosing)).to(out_dtype)


def _rows_of_four(boxes: Tensor) -> Tensor:
    if boxes.shape[-1] == 4 and boxes.dim() > 1:
        return boxes
    if boxes.numel() or (boxes.dim() > 1 and boxes.shape[-2]):
        raise UserValueError(f'bbox_overlaps takes (..., N, 4) boxes, not {tuple(boxes.shape)}')
    return boxes.new_zeros(*boxes.shape[:-2], 0, 4)  # no boxes, such as torch.tensor([])


def _at_least_float32(boxes: Tensor) -> Tensor:
    return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()


def _packed(column: Tensor) -> Tensor:
    """One coordinate ``(..., N)`` side by side in memory, which pairwise operations read several times as fast.

    Leading dimensions that were expanded have length 1 in the result: they are broadcast again.
    """
    for dim in range(column.dim() - 1):
        if column.stride(dim) == 0:
            column = column.narrow(dim, 0, 1)
    return column.contiguous()


def cast_tensor_type(x: Tensor, scale: float = 1.0, dtype: str | None = None) -> Tensor:
    """``x / scale`` in half precision where ``dtype`` is 'fp16'."""
    return (x / scale).half() if dtype == 'fp16' else x


class BboxOverlaps2D:
    """Overlaps of xyxy boxes.

    Args:
        scale, dtype: With ``dtype='fp16'`` boxes are divided by ``scale`` and compared in half precision.
    """

    def __init__(self, scale: float = 1.0, dtype: str | None = None) -> None:
        self.scale, self.dtype = scale, dtype

    def __call__(self, bboxes1: Tensor, bboxes2: Tensor, mode: str = 'iou', is_aligned: bool = False) -> Tensor:
        """Overlaps of ``(..., m, 4 or 5)`` with ``(..., n, 4 or 5)``: ``(..., m, n)``, or ``(..., m)`` if aligned.

        A fifth column, a score, is left out. ``mode`` is 'iou', 'iof' (by the area of ``bboxes1``) or 'giou'.
        """
        bboxes1, bboxes2 = (boxes.tensor if isinstance(boxes, BaseBoxes) else boxes for boxes in (bboxes1, bboxes2))
        for boxes in (bboxes1, bboxes2):
            if boxes.shape[-1] not in (0, 4, 5):
                raise UserValueError(f'boxes are (..., 4), or (..., 5) with a score, not {tuple(boxes.shape)}')
        bboxes1, bboxes2 = bboxes1[..., :4], bboxes2[..., :4]
        if self.dtype == 'fp16':
            bboxes1 = cast_tensor_type(bboxes1, self.scale, self.dtype)
            bboxes2 = cast_tensor_type(bboxes2, self.scale, self.dtype)
            overlaps = bbox_overlaps(bboxes1, bboxes2, mode, is_aligned)
            return overlaps.half() if not overlaps.is_cuda else overlaps
        with torch.autocast(bboxes1.device.type, enabled=False):
            return bbox_overlaps(bboxes1, bboxes2, mode, is_aligned)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, dtype={self.dtype})'
