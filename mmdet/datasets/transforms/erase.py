from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmdet.errors import UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.bbox.box_type import autocast_box_type
from mmdet.structures.mask import BitmapMasks

from .fields import select_instances


def _range(value: int | float | Sequence, name: str, lowest: float, highest: float = float('inf')) -> tuple:
    """A number or (smallest, largest) as a pair."""
    pair = (value, value) if isinstance(value, (int, float)) else tuple(value)
    numbers = len(pair) == 2 and all(isinstance(x, (int, float)) for x in pair)
    if not numbers or not lowest <= pair[0] <= pair[1] <= highest:
        raise UserValueError(
            f'{name} must be a number or (smallest, largest) from {lowest} to {highest}, not {value!r}'
        )
    return pair


@TRANSFORMS.register_module()
class CutOut(BaseTransform):
    """Fill random rectangles of the image; annotations stay (arXiv:1708.04552).

    Args:
        n_holes: How many, or (fewest, most).
        cutout_shape: (width, height) in pixels, or a list of them to choose from.
        cutout_ratio: The same relative to the image; give one of the two.
        fill_in: The colour.
    """

    def __init__(
        self,
        n_holes: int | tuple[int, int],
        cutout_shape: tuple[int, int] | list[tuple[int, int]] | None = None,
        cutout_ratio: tuple[float, float] | list[tuple[float, float]] | None = None,
        fill_in: tuple[float, float, float] = (0, 0, 0),
    ) -> None:
        if (cutout_shape is None) == (cutout_ratio is None):
            raise UserValueError('CutOut needs one of cutout_shape and cutout_ratio')
        self.n_holes = _range(n_holes, 'n_holes', 0)
        self.fill_in = fill_in
        self.with_ratio = cutout_ratio is not None
        candidates: Any = cutout_ratio if self.with_ratio else cutout_shape
        self.candidates: list[tuple[float, float]] = candidates if isinstance(candidates, list) else [candidates]
        if not self.candidates or not all(isinstance(x, (tuple, list)) and len(x) == 2 for x in self.candidates):
            raise UserValueError(
                f'a hole has two sides (width, height), or there is a list of them, not {candidates!r}'
            )

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        img = results['img'].copy()
        height, width = img.shape[:2]
        for _ in range(np.random.randint(self.n_holes[0], self.n_holes[1] + 1)):
            x, y = np.random.randint(0, width), np.random.randint(0, height)
            hole_w, hole_h = self.candidates[np.random.randint(0, len(self.candidates))]
            if self.with_ratio:
                hole_w, hole_h = int(hole_w * width), int(hole_h * height)
            img[y : y + hole_h, x : x + hole_w] = self.fill_in
        results['img'] = img
        return results

    def __repr__(self) -> str:
        name = 'cutout_ratio' if self.with_ratio else 'cutout_shape'
        return f'{type(self).__name__}(n_holes={self.n_holes}, {name}={self.candidates}, fill_in={self.fill_in})'


@TRANSFORMS.register_module()
class RandomErasing(BaseTransform):
    """Fill random patches of the image and of its masks; boxes covered by ``bbox_erased_thr`` or more are dropped.

    Args:
        n_patches: How many, or (fewest, most).
        ratio: Side of a patch relative to the image, or (smallest, largest).
        squared: Both sides have the same ratio.
        img_border_value, mask_border_value, seg_ignore_label: Fills of image, masks and semantic map.
    """

    def __init__(
        self,
        n_patches: int | tuple[int, int],
        ratio: float | tuple[float, float],
        squared: bool = True,
        bbox_erased_thr: float = 0.9,
        img_border_value: int | float | tuple = 128,
        mask_border_value: int = 0,
        seg_ignore_label: int = 255,
    ) -> None:
        self.n_patches = _range(n_patches, 'n_patches', 0)
        self.ratio = _range(ratio, 'ratio', 0, 1)
        self.squared = squared
        self.bbox_erased_thr = bbox_erased_thr
        self.img_border_value = img_border_value
        self.mask_border_value = mask_border_value
        self.seg_ignore_label = seg_ignore_label

    @cache_randomness
    def _get_patches(self, img_shape: tuple[int, int]) -> np.ndarray:
        """Boxes (N, 4) of the patches."""
        height, width = img_shape
        patches = []
        for _ in range(np.random.randint(self.n_patches[0], self.n_patches[1] + 1)):
            ratio_w, ratio_h = np.random.uniform(self.ratio[0], self.ratio[1], size=2)
            patch_h, patch_w = int(height * (ratio_w if self.squared else ratio_h)), int(width * ratio_w)
            x, y = np.random.randint(0, width - patch_w + 1), np.random.randint(0, height - patch_h + 1)
            patches.append((x, y, x + patch_w, y + patch_h))
        return np.array(patches, dtype=np.int64).reshape(-1, 4)

    @autocast_box_type(HorizontalBoxes)
    def transform(self, results: dict) -> dict:
        patches = self._get_patches(results['img_shape'])
        self._transform_img(results, patches)
        if results.get('gt_seg_map') is not None:
            self._transform_seg(results, patches)
        if results.get('gt_masks') is not None:
            self._transform_masks(results, patches)
        if results.get('gt_bboxes') is not None and len(results['gt_bboxes']):
            self._transform_bboxes(results, patches)
        return results

    def _transform_img(self, results: dict, patches: np.ndarray) -> None:
        results['img'] = self._filled(results['img'], patches, self.img_border_value)

    def _transform_seg(self, results: dict, patches: np.ndarray) -> None:
        results['gt_seg_map'] = self._filled(results['gt_seg_map'], patches, self.seg_ignore_label)

    def _transform_masks(self, results: dict, patches: np.ndarray) -> None:
        masks = results['gt_masks'].to_ndarray().copy()
        for x1, y1, x2, y2 in patches:
            masks[:, y1:y2, x1:x2] = self.mask_border_value
        results['gt_masks'] = BitmapMasks(masks, *results['img_shape'][:2])

    def _transform_bboxes(self, results: dict, patches: np.ndarray) -> None:
        """Drop the instances that the patches erase."""
        select_instances(results, self._erased(results['gt_bboxes'].numpy(), patches) < self.bbox_erased_thr)

    @staticmethod
    def _filled(img: np.ndarray, patches: np.ndarray, value) -> np.ndarray:
        img = img.copy()
        for x1, y1, x2, y2 in patches:
            img[y1:y2, x1:x2] = value
        return img

    @staticmethod
    def _erased(boxes: np.ndarray, patches: np.ndarray) -> np.ndarray:
        """Part of each box under the patches, where they overlap counted for each."""
        top_left = np.maximum(boxes[:, None, :2], patches[None, :, :2])
        bottom_right = np.minimum(boxes[:, None, 2:], patches[None, :, 2:])
        covered = (bottom_right - top_left).clip(0).prod(-1).sum(-1)
        return covered / ((boxes[:, 2:] - boxes[:, :2]).prod(-1) + 1e-7)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(n_patches={self.n_patches}, ratio={self.ratio}, squared={self.squared}, '
            f'bbox_erased_thr={self.bbox_erased_thr})'
        )
