"""The place where research code imports these from; they live in ``mmdet.ops``."""

from mmdet.ops import fast_nms, multiclass_nms

__all__ = ['fast_nms', 'multiclass_nms']
