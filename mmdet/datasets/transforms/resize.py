"""Resizing by several rules; boxes, masks, the semantic map and keypoints follow the image."""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import RandomChoiceResize as _RandomChoiceResize
from mmcv.transforms import RandomResize as _RandomResize
from mmcv.transforms import Resize as _Resize

from mmdet.errors import UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox.box_type import autocast_box_type

from .fields import at_least_a_pixel, move_keypoints, record_homography


@TRANSFORMS.register_module()
class Resize(_Resize):
    """Resize to ``scale`` (width, height) or by ``scale_factor``; arguments as mmcv's.

    No side becomes shorter than a pixel. With ``keep_ratio`` the image becomes as large as fits into a rectangle of
    the two numbers of ``scale``, whichever way the rectangle lies. ``results['scale_factor']`` is (width, height)
    new / old.
    """

    def __init__(
        self,
        scale: int | tuple[int, int] | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: str = 'cv2',
        interpolation: str = 'bilinear',
    ) -> None:
        if isinstance(scale, list):
            scale = tuple(scale)
        super().__init__(scale, scale_factor, keep_ratio, clip_object_border, backend, interpolation)

    def new_size(self, size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the result when the ratio is kept."""
        return mmcv.rescale_size(size, scale)

    def factors(self, size: tuple[int, int], new_size: tuple[int, int]) -> tuple[float, float]:
        """``scale_factor`` of the result: (width, height), new over old."""
        return new_size[0] / size[0], new_size[1] / size[1]

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        if self.scale:
            results['scale'] = (self.scale, self.scale) if isinstance(self.scale, int) else self.scale
        else:
            factor_w, factor_h = self.scale_factor
            results['scale'] = at_least_a_pixel(width * factor_w + 0.5, height * factor_h + 0.5)
        self._resize_img(results)
        self._resize_bboxes(results)
        self._resize_masks(results)
        self._resize_seg(results)
        self._resize_keypoints(results)
        self._record_homography_matrix(results)
        return results

    def _resize_img(self, results: dict) -> None:
        img = results['img']
        before = img.shape[1::-1]
        size = at_least_a_pixel(*(self.new_size(before, results['scale']) if self.keep_ratio else results['scale']))
        if size != before:
            img = mmcv.imresize(img, size, interpolation=self.interpolation, backend=self.backend)
        results['img'] = img
        results['img_shape'] = img.shape[:2]
        results['scale_factor'] = self.factors(before, size)
        results['keep_ratio'] = self.keep_ratio

    def _resize_bboxes(self, results: dict) -> None:
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].rescale_(results['scale_factor'])
            if self.clip_object_border:
                results['gt_bboxes'].clip_(results['img_shape'])

    def _resize_masks(self, results: dict) -> None:
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].resize(results['img_shape'])

    def _resize_seg(self, results: dict) -> None:
        if results.get('gt_seg_map') is not None:
            size = results['img_shape'][::-1]
            results['gt_seg_map'] = mmcv.imresize(results['gt_seg_map'], size, interpolation='nearest')

    def _resize_keypoints(self, results: dict) -> None:
        move_keypoints(results, _scaling(results))

    def _record_homography_matrix(self, results: dict) -> None:
        record_homography(results, _scaling(results))

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, scale_factor={self.scale_factor}, '
            f'keep_ratio={self.keep_ratio}, clip_object_border={self.clip_object_border}, '
            f'backend={self.backend!r}, interpolation={self.interpolation!r})'
        )


@TRANSFORMS.register_module()
class FixScaleResize(Resize):
    """:class:`Resize` that rounds the kept-ratio size down instead of to the nearest pixel."""

    def new_size(self, size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
        width, height = size
        factor = min(max(scale) / max(size), min(scale) / min(size))
        return int(width * factor), int(height * factor)


@TRANSFORMS.register_module()
class FixShapeResize(Resize):
    """Resize into a fixed (``width``, ``height``), by default padding nothing and forcing the ratio.

    With ``keep_ratio`` the image fits into the shape and is padded to it on the right and below; ``scale`` is then its
    size before padding and ``scale_factor`` the one factor, twice, before rounding to pixels.
    """

    def __init__(
        self,
        width: int,
        height: int,
        pad_val: float | dict = dict(img=0, seg=255),
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: str = 'cv2',
        interpolation: str = 'bilinear',
    ) -> None:
        super().__init__((width, height), None, keep_ratio, clip_object_border, backend, interpolation)
        self.width, self.height = width, height
        self.pad_transform = TRANSFORMS.build(dict(type='Pad', size=(width, height), pad_val=pad_val))

    def new_size(self, size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
        factor = self._factor(size)
        return min(self.width, int(size[0] * factor + 0.5)), min(self.height, int(size[1] * factor + 0.5))

    def _factor(self, size: tuple[int, int]) -> float:
        return min(self.width / size[0], self.height / size[1])

    def factors(self, size: tuple[int, int], new_size: tuple[int, int]) -> tuple[float, float]:
        return (self._factor(size),) * 2 if self.keep_ratio else super().factors(size, new_size)

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        if not self.keep_ratio:
            return results
        results['scale'] = results['img_shape'][::-1]
        return self.pad_transform(results)


@TRANSFORMS.register_module()
class ResizeShortestEdge(BaseTransform):
    """Resize the shorter side to ``scale`` and the longer one to at most ``max_size`` (detectron2's rule)."""

    def __init__(
        self, scale: int | tuple[int, int], max_size: int | None = None, resize_type: str = 'Resize', **resize_kwargs
    ) -> None:
        super().__init__()
        self.scale = scale
        self.max_size = max_size
        self.resize_cfg = dict(type=resize_type, **resize_kwargs)
        self.resize = TRANSFORMS.build({'scale': 0, **self.resize_cfg})

    def _get_output_shape(self, img: np.ndarray, short_edge_length: int | Sequence[int]) -> tuple[int, int]:
        height, width = img.shape[:2]
        short = short_edge_length if isinstance(short_edge_length, (int, float)) else min(short_edge_length)
        factor = short / min(height, width)
        if self.max_size is not None:
            factor = min(factor, self.max_size / max(height, width))
        return at_least_a_pixel(width * factor + 0.5, height * factor + 0.5)

    def transform(self, results: dict) -> dict:
        self.resize.scale = self._get_output_shape(results['img'], self.scale)
        return self.resize(results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, max_size={self.max_size}, resize_cfg={self.resize_cfg})'


@TRANSFORMS.register_module()
class RandomResize(_RandomResize):
    """Resize to a random size: between two scales, or ``scale`` times a factor of ``ratio_range``."""

    def __init__(self, scale, ratio_range=None, resize_type: str = 'Resize', **resize_kwargs) -> None:
        self.scale = _as_tuples(scale)
        self.ratio_range = ratio_range
        self.resize_cfg = dict(type=resize_type, **resize_kwargs)
        self.resize = TRANSFORMS.build({'scale': 0, **self.resize_cfg})

    def transform(self, results: dict) -> dict:
        if isinstance(self.scale, tuple) and isinstance(self.scale[0], int) and self.ratio_range is None:
            raise UserValueError(f'RandomResize with the one scale {self.scale} needs ratio_range=(smallest, largest)')
        return super().transform(results)


@TRANSFORMS.register_module()
class RandomChoiceResize(_RandomChoiceResize):
    """Resize to one of ``scales``."""

    def __init__(self, scales: Sequence[int | tuple], resize_type: str = 'Resize', **resize_kwargs) -> None:
        BaseTransform.__init__(self)
        self.scales = [tuple(x) if isinstance(x, list) else x for x in scales] if isinstance(scales, list) else [scales]
        self.resize_cfg = dict(type=resize_type, **resize_kwargs)
        self.resize = TRANSFORMS.build({'scale': 0, **self.resize_cfg})


def _scaling(results: dict) -> np.ndarray:
    return np.diag([*results['scale_factor'], 1]).astype(np.float32)


def _as_tuples(scale):
    """Scales written as lists (JSON, command line) as the tuples that mmcv tells apart by type."""
    if isinstance(scale[0], int):
        return tuple(scale)
    return [tuple(x) for x in scale]
