from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox.bbox_overlaps import BboxOverlaps2D, cast_tensor_type

__all__ = ['BboxOverlaps2D', 'cast_tensor_type']

TASK_UTILS.register_module(module=BboxOverlaps2D)
