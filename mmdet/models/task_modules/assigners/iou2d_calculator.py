from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor


def cast_tensor_type(x: Tensor, scale: float = 1.0, dtype: str | None = None) -> Tensor:
    """``x / scale`` in half precision where ``dtype`` is 'fp16'."""
    return (x / scale).half() if dtype == 'fp16' else x


@TASK_UTILS.register_module()
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
        bboxes1, bboxes2 = get_box_tensor(bboxes1), get_box_tensor(bboxes2)
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
