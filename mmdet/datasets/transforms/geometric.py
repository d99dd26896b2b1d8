"""Affine transforms about the whole image: shears, rotations, translations and their random mixture."""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmdet.errors import UserNotImplementedError, UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox.box_type import autocast_box_type
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from .colorspace import level_to_mag
from .fields import move_keypoints, record_homography, select_instances, set_image

_INTERPOLATION = {'nearest': cv2.INTER_NEAREST, 'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC}


def _warp(img: np.ndarray, matrix: np.ndarray, value, flags: int) -> np.ndarray:
    height, width = img.shape[:2]
    return cv2.warpAffine(img, matrix[:2], (width, height), flags=flags, borderValue=value)


def _warp_masks(masks: BitmapMasks | PolygonMasks, matrix: np.ndarray, value: int) -> BitmapMasks | PolygonMasks:
    height, width = masks.height, masks.width
    if isinstance(masks, BitmapMasks):
        bitmaps = [_warp(mask, matrix, value, cv2.INTER_NEAREST) for mask in masks.masks]
        return BitmapMasks(bitmaps, height, width)
    moved = []
    for polygons in masks.masks:
        points = [polygon.reshape(-1, 2) @ matrix[:2, :2].T + matrix[:2, 2] for polygon in polygons]
        moved.append([np.clip(p, 0, (width, height)).ravel() for p in points])
    return PolygonMasks(moved, height, width)


@TRANSFORMS.register_module()
class GeomTransform(BaseTransform):
    """Base of the affine augmentations: the identity.

    Args:
        prob: Probability of doing it.
        level: Strength from 0 to 10 between ``min_mag`` and ``max_mag``; random without one.
        reversal_prob: Probability of the positive direction.
        img_border_value, mask_border_value, seg_ignore_label: Fills of what comes into the image.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``, for the image.
    """

    def __init__(
        self,
        prob: float = 1.0,
        level: int | None = None,
        min_mag: float = 0.0,
        max_mag: float = 1.0,
        reversal_prob: float = 0.5,
        img_border_value: int | float | tuple = 128,
        mask_border_value: int = 0,
        seg_ignore_label: int = 255,
        interpolation: str = 'bilinear',
    ) -> None:
        if not 0 <= prob <= 1 or not 0 <= reversal_prob <= 1:
            raise UserValueError(f'probabilities must be from 0 to 1, not prob={prob}, reversal_prob={reversal_prob}')
        if level is not None and not 0 <= level <= 10:
            raise UserValueError(f'level must be from 0 to 10, not {level}')
        if min_mag > max_mag:
            raise UserValueError(f'min_mag={min_mag} is above max_mag={max_mag}')
        if interpolation not in _INTERPOLATION:
            raise UserValueError(f'interpolation must be one of {", ".join(_INTERPOLATION)}, not {interpolation!r}')
        border = img_border_value if isinstance(img_border_value, (tuple, list)) else (img_border_value,) * 3
        if len(border) != 3:
            raise UserValueError(f'img_border_value must be one number or three, not {img_border_value}')
        self.prob = prob
        self.level = level
        self.min_mag = min_mag
        self.max_mag = max_mag
        self.reversal_prob = reversal_prob
        self.img_border_value = tuple(float(x) for x in border)
        self.mask_border_value = mask_border_value
        self.seg_ignore_label = seg_ignore_label
        self.interpolation = interpolation

    @cache_randomness
    def _random_disable(self) -> bool:
        return np.random.rand() > self.prob

    @cache_randomness
    def _get_mag(self) -> float:
        mag = level_to_mag(self.level, self.min_mag, self.max_mag)
        return -mag if np.random.rand() > self.reversal_prob else mag

    def _get_homography_matrix(self, results: dict, mag: float) -> np.ndarray:
        return np.eye(3, dtype=np.float32)

    def _matrix(self, results: dict, mag: float) -> np.ndarray:
        return np.asarray(self._get_homography_matrix(results, mag), dtype=np.float32)

    def _transform_img(self, results: dict, mag: float) -> None:
        matrix = self._matrix(results, mag)
        img = _warp(results['img'], matrix, self.img_border_value, _INTERPOLATION[self.interpolation])
        set_image(results, img.astype(results['img'].dtype))

    def _transform_masks(self, results: dict, mag: float) -> None:
        matrix = self._matrix(results, mag)
        results['gt_masks'] = _warp_masks(results['gt_masks'], matrix, self.mask_border_value)

    def _transform_seg(self, results: dict, mag: float) -> None:
        matrix = self._matrix(results, mag)
        results['gt_seg_map'] = _warp(results['gt_seg_map'], matrix, self.seg_ignore_label, cv2.INTER_NEAREST)

    def _transform_bboxes(self, results: dict, mag: float) -> None:
        results['gt_bboxes'].project_(self._matrix(results, mag))
        results['gt_bboxes'].clip_(results['img_shape'])

    def _record_homography_matrix(self, results: dict) -> None:
        record_homography(results, self.homography_matrix)

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        if self._random_disable():
            return results
        mag = self._get_mag()
        self.homography_matrix = self._matrix(results, mag)
        self._transform_img(results, mag)
        if results.get('gt_masks') is not None:
            self._transform_masks(results, mag)
        if results.get('gt_seg_map') is not None:
            self._transform_seg(results, mag)
        move_keypoints(results, self.homography_matrix)
        if results.get('gt_bboxes') is not None:
            self._transform_bboxes(results, mag)
            select_instances(results, results['gt_bboxes'].is_inside(results['img_shape']).numpy())
        self._record_homography_matrix(results)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, level={self.level}, min_mag={self.min_mag}, '
            f'max_mag={self.max_mag}, reversal_prob={self.reversal_prob}, interpolation={self.interpolation!r})'
        )


class _Shear(GeomTransform):
    """``min_mag`` and ``max_mag`` are degrees."""

    def __init__(
        self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.0, max_mag: float = 30.0, **kwargs
    ):
        if not 0 <= min_mag <= 90 or not 0 <= max_mag <= 90:
            raise UserValueError(f'min_mag and max_mag are angles from 0 to 90 degrees, not {min_mag} and {max_mag}')
        super().__init__(prob, level, min_mag, max_mag, **kwargs)

    @cache_randomness
    def _get_mag(self) -> float:
        mag = math.tan(math.radians(level_to_mag(self.level, self.min_mag, self.max_mag)))
        return -mag if np.random.rand() > self.reversal_prob else mag


@TRANSFORMS.register_module()
class ShearX(_Shear):
    """Shear rows against each other."""

    def _get_homography_matrix(self, results: dict, mag: float) -> np.ndarray:
        return np.array([[1, mag, 0], [0, 1, 0], [0, 0, 1]])


@TRANSFORMS.register_module()
class ShearY(_Shear):
    """Shear columns against each other."""

    def _get_homography_matrix(self, results: dict, mag: float) -> np.ndarray:
        return np.array([[1, 0, 0], [mag, 1, 0], [0, 0, 1]])


@TRANSFORMS.register_module()
class Rotate(GeomTransform):
    """Rotate about the centre of the image; magnitudes are degrees, clockwise when positive."""

    def __init__(
        self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.0, max_mag: float = 30.0, **kwargs
    ):
        if not 0 <= min_mag <= 180 or not 0 <= max_mag <= 180:
            raise UserValueError(f'min_mag and max_mag are angles from 0 to 180 degrees, not {min_mag} and {max_mag}')
        super().__init__(prob, level, min_mag, max_mag, **kwargs)

    def _get_homography_matrix(self, results: dict, mag: float) -> np.ndarray:
        height, width = results['img_shape'][:2]
        rotation = cv2.getRotationMatrix2D(((width - 1) * 0.5, (height - 1) * 0.5), -mag, 1.0)
        return np.concatenate([rotation, [[0, 0, 1]]])


class _Translate(GeomTransform):
    """Magnitudes are parts of the side."""

    def __init__(
        self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.0, max_mag: float = 0.1, **kwargs
    ):
        if not 0 <= min_mag <= 1 or not 0 <= max_mag <= 1:
            raise UserValueError(f'min_mag and max_mag are parts of the side from 0 to 1, not {min_mag} and {max_mag}')
        super().__init__(prob, level, min_mag, max_mag, **kwargs)


@TRANSFORMS.register_module()
class TranslateX(_Translate):
    """Shift along x."""

    def _get_homography_matrix(self, results: dict, mag: float) -> np.ndarray:
        return np.array([[1, 0, int(mag * results['img_shape'][1])], [0, 1, 0], [0, 0, 1]])


@TRANSFORMS.register_module()
class TranslateY(_Translate):
    """Shift along y."""

    def _get_homography_matrix(self, results: dict, mag: float) -> np.ndarray:
        return np.array([[1, 0, 0], [0, 1, int(mag * results['img_shape'][0])], [0, 0, 1]])


@TRANSFORMS.register_module()
class RandomAffine(BaseTransform):
    """Random scaling, rotation, shear and translation in one warp, for boxes and keypoints (YOLOX).

    Args:
        border: (x, y) pixels added on each side of the image; negative ones cut a mosaic back to one cell.
        border_val: Fill.
        bbox_clip_border: Clip boxes to the image.
    """

    def __init__(
        self,
        max_rotate_degree: float = 10.0,
        max_translate_ratio: float = 0.1,
        scaling_ratio_range: tuple[float, float] = (0.5, 1.5),
        max_shear_degree: float = 2.0,
        border: tuple[int, int] = (0, 0),
        border_val: tuple[int, int, int] = (114, 114, 114),
        bbox_clip_border: bool = True,
    ) -> None:
        if not 0 <= max_translate_ratio <= 1:
            raise UserValueError(f'max_translate_ratio must be from 0 to 1, not {max_translate_ratio}')
        if not 0 < scaling_ratio_range[0] <= scaling_ratio_range[1]:
            raise UserValueError(f'scaling_ratio_range must be (smallest, largest) above 0, not {scaling_ratio_range}')
        self.max_rotate_degree = max_rotate_degree
        self.max_translate_ratio = max_translate_ratio
        self.scaling_ratio_range = scaling_ratio_range
        self.max_shear_degree = max_shear_degree
        self.border = border
        self.border_val = border_val
        self.bbox_clip_border = bbox_clip_border

    @cache_randomness
    def _get_random_homography_matrix(self, height: int, width: int) -> np.ndarray:
        def draw(limit: float) -> float:
            return random.uniform(-limit, limit)

        rotation = self._get_rotation_matrix(draw(self.max_rotate_degree))
        scaling = self._get_scaling_matrix(random.uniform(*self.scaling_ratio_range))
        shear = self._get_shear_matrix(draw(self.max_shear_degree), draw(self.max_shear_degree))
        shift = self._get_translation_matrix(
            draw(self.max_translate_ratio) * width, draw(self.max_translate_ratio) * height
        )
        return (shift @ shear @ rotation @ scaling).astype(np.float32)

    @staticmethod
    def _get_rotation_matrix(rotate_degrees: float) -> np.ndarray:
        angle = math.radians(rotate_degrees)
        return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])

    @staticmethod
    def _get_scaling_matrix(scale_ratio: float) -> np.ndarray:
        return np.diag([scale_ratio, scale_ratio, 1.0])

    @staticmethod
    def _get_shear_matrix(x_shear_degrees: float, y_shear_degrees: float) -> np.ndarray:
        x, y = math.tan(math.radians(x_shear_degrees)), math.tan(math.radians(y_shear_degrees))
        return np.array([[1, x, 0], [y, 1, 0], [0, 0, 1]])

    @staticmethod
    def _get_translation_matrix(x: float, y: float) -> np.ndarray:
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        if results.get('gt_masks') is not None:
            raise UserNotImplementedError('RandomAffine moves boxes only, not masks')
        img = results['img']
        height, width = img.shape[0] + 2 * self.border[1], img.shape[1] + 2 * self.border[0]
        matrix = self._get_random_homography_matrix(height, width)
        img = cv2.warpPerspective(img, matrix, dsize=(width, height), borderValue=self.border_val)
        set_image(results, img)
        record_homography(results, matrix)
        move_keypoints(results, matrix)
        boxes = results['gt_bboxes']
        if len(boxes):
            boxes.project_(matrix)
            if self.bbox_clip_border:
                boxes.clip_([height, width])
            select_instances(results, boxes.is_inside([height, width]).numpy())
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(max_rotate_degree={self.max_rotate_degree}, '
            f'max_translate_ratio={self.max_translate_ratio}, scaling_ratio_range={self.scaling_ratio_range}, '
            f'max_shear_degree={self.max_shear_degree}, border={self.border}, border_val={self.border_val}, '
            f'bbox_clip_border={self.bbox_clip_border})'
        )
