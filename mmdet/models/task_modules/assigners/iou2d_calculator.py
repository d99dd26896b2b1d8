from mmdet.structures.bbox.bbox_overlaps import BboxOverlaps2D, cast_tensor_type

__all__ = ['BboxOverlaps2D', 'cast_tensor_type']
