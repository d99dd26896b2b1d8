from torch import Tensor

from mmdet.errors import UserNotImplementedError
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox.bbox_overlaps import BboxOverlaps2D, cast_tensor_type
from mmdet.structures.bbox.transforms import with_ends_moved

__all__ = ['BboxOverlaps2D', 'BboxOverlaps2D_GLIP', 'cast_tensor_type']

TASK_UTILS.register_module(module=BboxOverlaps2D)


@TASK_UTILS.register_module()
class BboxOverlaps2D_GLIP(BboxOverlaps2D):  # as in 3.x
    """IoU of boxes that end with their last pixel, not after it (GLIP)."""

    def __call__(self, bboxes1: Tensor, bboxes2: Tensor, mode: str = 'iou', is_aligned: bool = False) -> Tensor:
        if mode != 'iou':
            raise UserNotImplementedError(f"BboxOverlaps2D_GLIP knows mode 'iou' alone, not {mode!r}")
        longer = [with_ends_moved(boxes[..., :4], 1) for boxes in (bboxes1, bboxes2)]
        return super().__call__(*longer, mode=mode, is_aligned=is_aligned)
