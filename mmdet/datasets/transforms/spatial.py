"""Flips, shifts, pads and crops."""

from __future__ import annotations

import random
from collections.abc import Sequence

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import Pad as _Pad
from mmcv.transforms import RandomFlip as _RandomFlip
from mmcv.transforms.utils import cache_randomness

from mmdet.errors import UserNotImplementedError, UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.bbox.box_type import autocast_box_type

from .fields import at_least_a_pixel, move_keypoints, record_homography, select_instances, set_image, translation

_FLIP_CODES = {'horizontal': 1, 'vertical': 0, 'diagonal': -1}


@TRANSFORMS.register_module()
class RandomFlip(_RandomFlip):
    """Flip image, boxes, masks, semantic map and keypoints with probability ``prob``; arguments as mmcv's.

    Keypoints that change sides (left eye, right eye) are swapped by ``results['flip_indices']`` in a horizontal flip.
    """

    def _flip(self, results: dict) -> None:
        direction = results['flip_direction']
        img = results['img']
        height, width = results['img_shape'] = img.shape[:2]
        results['img'] = cv2.flip(img, _FLIP_CODES[direction]).reshape(img.shape)
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].flip_((height, width), direction)
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].flip(direction)
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = self._flip_seg_map(results['gt_seg_map'], direction)
            results['swap_seg_labels'] = self.swap_seg_labels
        move_keypoints(results, self._matrix(results))
        if direction != 'vertical' and results.get('gt_keypoints') is not None and 'flip_indices' in results:
            results['gt_keypoints'] = results['gt_keypoints'][:, list(results['flip_indices'])]
        self._record_homography_matrix(results)

    @staticmethod
    def _matrix(results: dict) -> np.ndarray:
        (height, width), direction = results['img_shape'], results['flip_direction']
        matrix = np.eye(3, dtype=np.float32)
        if direction != 'vertical':
            matrix[0] = -1, 0, width
        if direction != 'horizontal':
            matrix[1] = 0, -1, height
        return matrix

    def _record_homography_matrix(self, results: dict) -> None:
        record_homography(results, self._matrix(results))

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        self._flip_on_direction(results)
        return results


@TRANSFORMS.register_module()
class RandomShift(BaseTransform):
    """Shift image and boxes by up to ``max_shift_px`` pixels each way (YOLOF, arXiv:2103.09460).

    Boxes that are at most ``filter_thr_px`` wide or high afterwards are dropped; a shift that loses all is not made.
    """

    def __init__(self, prob: float = 0.5, max_shift_px: int = 32, filter_thr_px: int = 1) -> None:
        if not 0 <= prob <= 1:
            raise UserValueError(f'prob must be from 0 to 1, not {prob}')
        if max_shift_px < 0:
            raise UserValueError(f'max_shift_px must not be negative, not {max_shift_px}')
        self.prob = prob
        self.max_shift_px = max_shift_px
        self.filter_thr_px = int(filter_thr_px)

    @cache_randomness
    def _random_prob(self) -> float:
        return random.uniform(0, 1)

    @cache_randomness
    def _random_shift(self) -> tuple[int, int]:
        limit = self.max_shift_px
        return random.randint(-limit, limit), random.randint(-limit, limit)

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        if self._random_prob() >= self.prob:
            return results
        if results.get('gt_masks') is not None:
            raise UserNotImplementedError('RandomShift moves boxes only, not masks')
        img = results['img']
        height, width = img.shape[:2]
        dx, dy = self._random_shift()
        boxes = results['gt_bboxes'].clone()
        boxes.translate_([dx, dy])
        boxes.clip_((height, width))
        keep = ((boxes.widths > self.filter_thr_px) & (boxes.heights > self.filter_thr_px)).numpy()
        if not keep.any():
            return results
        results['gt_bboxes'] = boxes
        shifted = np.zeros_like(img)
        rows, columns = height - abs(dy), width - abs(dx)
        if rows > 0 and columns > 0:
            to_y, to_x, from_y, from_x = max(0, dy), max(0, dx), max(0, -dy), max(0, -dx)
            shifted[to_y : to_y + rows, to_x : to_x + columns] = img[from_y : from_y + rows, from_x : from_x + columns]
        set_image(results, shifted)
        select_instances(results, keep)
        move_keypoints(results, translation(dx, dy))
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, max_shift_px={self.max_shift_px}, '
            f'filter_thr_px={self.filter_thr_px})'
        )


@TRANSFORMS.register_module()
class Pad(_Pad):
    """Pad on the right and below; arguments as mmcv's, with ``masks`` as one more key of ``pad_val``."""

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        size_divisor: int | None = None,
        pad_to_square: bool = False,
        pad_val: float | dict = dict(img=0, seg=255),
        padding_mode: str = 'constant',
    ) -> None:
        pad_val = dict(pad_val) if isinstance(pad_val, dict) else dict(img=pad_val, seg=255)
        img = pad_val.get('img', 0)
        pad_val['img'] = tuple(img) if isinstance(img, (list, tuple)) else img
        super().__init__(size, size_divisor, pad_to_square, pad_val, padding_mode)

    def transform(self, results: dict) -> dict:
        self._pad_img(results)
        self._pad_seg(results)
        self._pad_masks(results)
        return results

    def _pad_masks(self, results: dict) -> None:
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].pad(
                results['pad_shape'][:2], pad_val=self.pad_val.get('masks', 0)
            )


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """Crop a random window.

    Args:
        crop_size: (width, height), in pixels or relative to the image.
        crop_type: ``absolute``: that many pixels; ``absolute_range``: each side from ``crop_size[0]`` to
            ``crop_size[1]`` pixels; ``relative``: that part of the image; ``relative_range``: at least that part.
        allow_negative_crop: Accept a window without a box; else such a crop makes the sample ``None``.
        recompute_bbox: Boxes become the bounds of their cropped masks.
        bbox_clip_border: Clip boxes to the window.
    """

    def __init__(
        self,
        crop_size: tuple,
        crop_type: str = 'absolute',
        allow_negative_crop: bool = False,
        recompute_bbox: bool = False,
        bbox_clip_border: bool = True,
    ) -> None:
        if crop_type not in ('relative_range', 'relative', 'absolute', 'absolute_range'):
            raise UserValueError(
                f"crop_type must be 'absolute', 'absolute_range', 'relative' or 'relative_range', not {crop_type!r}"
            )
        if crop_type.startswith('absolute'):
            if not all(isinstance(side, int) and side > 0 for side in crop_size):
                raise UserValueError(f'crop_size of an absolute crop must be two positive integers, not {crop_size}')
            if crop_type == 'absolute_range' and crop_size[0] > crop_size[1]:
                raise UserValueError(f'crop_size of absolute_range is (smallest, largest), not {crop_size}')
        elif not all(0 < side <= 1 for side in crop_size):
            raise UserValueError(f'crop_size of a relative crop must lie in (0, 1], not {crop_size}')
        self.crop_size = crop_size
        self.crop_type = crop_type
        self.allow_negative_crop = allow_negative_crop
        self.recompute_bbox = recompute_bbox
        self.bbox_clip_border = bbox_clip_border

    @cache_randomness
    def _rand_offset(self, margin: tuple[int, int]) -> tuple[int, int]:
        margin_h, margin_w = margin
        return np.random.randint(0, margin_h + 1), np.random.randint(0, margin_w + 1)

    @cache_randomness
    def _get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the window in an image of (height, width)."""
        h, w = image_size
        first, second = self.crop_size
        if self.crop_type == 'absolute':
            return min(second, h), min(first, w)
        if self.crop_type == 'absolute_range':
            crop_h = np.random.randint(min(h, first), min(h, second) + 1)
            crop_w = np.random.randint(min(w, first), min(w, second) + 1)
            return crop_h, crop_w
        if self.crop_type == 'relative':
            return at_least_a_pixel(h * second + 0.5, w * first + 0.5)
        smallest = np.asarray(self.crop_size, dtype=np.float32)
        crop_h, crop_w = smallest + np.random.rand(2) * (1 - smallest)
        return at_least_a_pixel(h * crop_h + 0.5, w * crop_w + 0.5)

    def _crop_data(self, results: dict, crop_size: tuple[int, int], allow_negative_crop: bool) -> dict | None:
        img = results['img']
        top, left = self._rand_offset((max(img.shape[0] - crop_size[0], 0), max(img.shape[1] - crop_size[1], 0)))
        window = img[top : top + crop_size[0], left : left + crop_size[1]]
        shape = window.shape[:2]
        if results.get('gt_bboxes') is not None:
            boxes = results['gt_bboxes']
            boxes.translate_([-left, -top])
            if self.bbox_clip_border:
                boxes.clip_(shape)
            keep = boxes.is_inside(shape).numpy()
            if not keep.any() and not allow_negative_crop:
                return None
            select_instances(results, keep)
        set_image(results, window)
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].crop(np.array([left, top, left + shape[1], top + shape[0]]))
            if self.recompute_bbox:
                results['gt_bboxes'] = results['gt_masks'].get_bboxes(type(results['gt_bboxes']))
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = results['gt_seg_map'][top : top + shape[0], left : left + shape[1]]
        move_keypoints(results, translation(-left, -top))
        record_homography(results, translation(-left, -top))
        return results

    @autocast_box_type()
    def transform(self, results: dict) -> dict | None:
        crop_size = self._get_crop_size(results['img'].shape[:2])
        return self._crop_data(results, crop_size, self.allow_negative_crop)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(crop_size={self.crop_size}, crop_type={self.crop_type!r}, '
            f'allow_negative_crop={self.allow_negative_crop}, recompute_bbox={self.recompute_bbox}, '
            f'bbox_clip_border={self.bbox_clip_border})'
        )


@TRANSFORMS.register_module()
class Expand(BaseTransform):
    """Place the image somewhere in a canvas ``ratio_range`` times as large, filled with ``mean`` (SSD, Sec. 3.6)."""

    def __init__(
        self,
        mean: Sequence[float] = (0, 0, 0),
        to_rgb: bool = True,
        ratio_range: Sequence[float] = (1, 4),
        seg_ignore_label: int | None = None,
        prob: float = 0.5,
    ) -> None:
        self.to_rgb = to_rgb
        self.ratio_range = ratio_range
        self.mean = mean[::-1] if to_rgb else mean
        self.min_ratio, self.max_ratio = ratio_range
        self.seg_ignore_label = seg_ignore_label
        self.prob = prob

    @cache_randomness
    def _random_prob(self) -> float:
        return random.uniform(0, 1)

    @cache_randomness
    def _random_ratio(self) -> float:
        return random.uniform(self.min_ratio, self.max_ratio)

    @cache_randomness
    def _random_left_top(self, ratio: float, h: int, w: int) -> tuple[int, int]:
        return int(random.uniform(0, w * ratio - w)), int(random.uniform(0, h * ratio - h))

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        if self._random_prob() > self.prob:
            return results
        img = results['img']
        h, w, channels = img.shape
        ratio = self._random_ratio()
        size = int(h * ratio), int(w * ratio)
        left, top = self._random_left_top(ratio, h, w)
        canvas = np.empty((*size, channels), dtype=img.dtype)
        canvas[...] = np.asarray(self.mean).astype(img.dtype)
        canvas[top : top + h, left : left + w] = img
        set_image(results, canvas)
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].translate_([left, top])
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].expand(*size, top, left)
        if results.get('gt_seg_map') is not None:
            seg = results['gt_seg_map']
            fill = 255 if self.seg_ignore_label is None else self.seg_ignore_label
            results['gt_seg_map'] = np.full(size, fill, dtype=seg.dtype)
            results['gt_seg_map'][top : top + h, left : left + w] = seg
        move_keypoints(results, translation(left, top))
        record_homography(results, translation(left, top))
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(mean={self.mean}, to_rgb={self.to_rgb}, ratio_range={self.ratio_range}, '
            f'seg_ignore_label={self.seg_ignore_label}, prob={self.prob})'
        )


@TRANSFORMS.register_module()
class MinIoURandomCrop(BaseTransform):
    """Crop a window that overlaps every box by at least a drawn IoU (SSD, Sec. 3.6); boxes with their centre stay.

    Args:
        min_ious: The IoUs to draw from; beside them "no crop" and "any crop".
        min_crop_size: Shortest side of the window, relative to the image.
        bbox_clip_border: Clip boxes to the window.
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        bbox_clip_border: bool = True,
    ) -> None:
        self.min_ious = min_ious
        self.sample_mode = (1, *min_ious, 0)
        self.min_crop_size = min_crop_size
        self.bbox_clip_border = bbox_clip_border

    @cache_randomness
    def _random_mode(self) -> float:
        return random.choice(self.sample_mode)

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        while True:
            self.mode = mode = self._random_mode()
            if mode == 1:
                return results
            for _ in range(50):
                patch = self._random_patch(height, width)
                if patch is not None and self._accepts(results, patch, mode):
                    return self._crop(results, patch)

    def _random_patch(self, height: int, width: int) -> np.ndarray | None:
        new_w = np.random.uniform(self.min_crop_size * width, width)
        new_h = np.random.uniform(self.min_crop_size * height, height)
        if not 0.5 <= new_h / new_w <= 2:
            return None
        left, top = np.random.uniform(0, width - new_w), np.random.uniform(0, height - new_h)
        patch = np.array((int(left), int(top), int(left + new_w), int(top + new_h)))
        return None if patch[2] == patch[0] or patch[3] == patch[1] else patch

    @staticmethod
    def _centers_inside(boxes, patch: np.ndarray) -> np.ndarray:
        centers = boxes.centers.numpy()
        return ((centers > patch[:2]) & (centers < patch[2:])).all(-1)

    def _accepts(self, results: dict, patch: np.ndarray, min_iou: float) -> bool:
        boxes = results.get('gt_bboxes')
        if boxes is None or not len(boxes):
            return True
        overlaps = boxes.overlaps(HorizontalBoxes(patch.reshape(1, 4).astype(np.float32)), boxes)
        return overlaps.min() >= min_iou and bool(self._centers_inside(boxes, patch).any())

    def _crop(self, results: dict, patch: np.ndarray) -> dict:
        left, top, right, bottom = patch.tolist()
        boxes = results.get('gt_bboxes')
        if boxes is not None and len(boxes):
            select_instances(results, self._centers_inside(boxes, patch))
            boxes = results['gt_bboxes']
            boxes.translate_([-left, -top])
            if self.bbox_clip_border:
                boxes.clip_([bottom - top, right - left])
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].crop(patch)
        set_image(results, results['img'][top:bottom, left:right])
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = results['gt_seg_map'][top:bottom, left:right]
        move_keypoints(results, translation(-left, -top))
        record_homography(results, translation(-left, -top))
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(min_ious={self.min_ious}, min_crop_size={self.min_crop_size}, '
            f'bbox_clip_border={self.bbox_clip_border})'
        )


@TRANSFORMS.register_module()
class SegRescale(BaseTransform):
    """Rescale the semantic map by ``scale_factor`` (HTC's semantic branch works at a stride)."""

    def __init__(self, scale_factor: float = 1, backend: str = 'cv2') -> None:
        self.scale_factor = scale_factor
        self.backend = backend

    def transform(self, results: dict) -> dict:
        if self.scale_factor != 1:
            results['gt_seg_map'] = mmcv.imrescale(
                results['gt_seg_map'], self.scale_factor, interpolation='nearest', backend=self.backend
            )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale_factor={self.scale_factor}, backend={self.backend!r})'
