"""Boxes of GLIP (arXiv:2112.03857), which hold their last pixel: x2 is the place of the last column, not beyond it."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.registry import TRANSFORMS

from .spatial import RandomFlip


@TRANSFORMS.register_module()
class GTBoxSubOne_GLIP(BaseTransform):
    """Take one from ``x2`` and ``y2`` of every ground truth."""

    def transform(self, results: dict) -> dict:
        boxes = results.get('gt_bboxes')
        if isinstance(boxes, np.ndarray):
            results['gt_bboxes'] = boxes - np.array([0, 0, 1, 1], dtype=boxes.dtype)
        elif boxes is not None:
            corners = boxes.tensor.clone()
            corners[:, 2:] -= 1
            results['gt_bboxes'] = type(boxes)(corners)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class RandomFlip_GLIP(RandomFlip):
    """:class:`RandomFlip` of boxes that hold their last pixel: column x becomes column ``width - 1 - x``."""

    def _flip(self, results: dict) -> None:
        super()._flip(results)
        if results.get('gt_bboxes') is not None and results['flip_direction'] == 'horizontal':
            results['gt_bboxes'].translate_([-1, 0])
