"""Transforms that put several images into one."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox.box_type import autocast_box_type
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from .fields import INSTANCE_KEYS, at_least_a_pixel, move_keypoints, select_instances, set_image


def _move(results: dict, ratio: float, x: float, y: float, shape: tuple[int, int]) -> None:
    """Scale the instances by ``ratio`` and place their image at (x, y) of a canvas of ``shape``."""
    results['gt_bboxes'].rescale_([ratio, ratio])
    results['gt_bboxes'].translate_([x, y])
    if results.get('gt_masks') is not None:
        masks = results['gt_masks'].resize(_scaled(results['img'], ratio)[::-1])
        masks = masks.translate(out_shape=shape, offset=x, direction='horizontal')
        results['gt_masks'] = masks.translate(out_shape=shape, offset=y, direction='vertical')
    results['img_shape'] = shape
    move_keypoints(results, np.array([[ratio, 0, x], [0, ratio, y], [0, 0, 1]], dtype=np.float32))


def _scaled(img: np.ndarray, ratio: float) -> tuple[int, int]:
    """(width, height) of an image times ``ratio``."""
    return at_least_a_pixel(img.shape[1] * ratio, img.shape[0] * ratio)


def _join_instances(results: dict, parts: list[dict]) -> None:
    """Give ``results`` the instances of all parts."""
    for key in INSTANCE_KEYS:
        if results.get(key) is None:
            continue
        values = [part[key] for part in parts]
        if isinstance(values[0], np.ndarray):
            results[key] = np.concatenate(values)
        else:
            results[key] = type(values[0]).cat(values)


def _drop_outside(results: dict, shape: tuple[int, int], clip: bool) -> None:
    if clip:
        results['gt_bboxes'].clip_(shape)
    select_instances(results, results['gt_bboxes'].is_inside(shape).numpy())


class _Cache:
    """The last images that a transform has seen, for transforms that draw their partners among them.

    The cache makes a sample depend on those that the same worker loaded before: it cannot be repeated exactly by a
    resumed run or with another number of workers. The transforms without ``Cached`` can.
    """

    def __init__(self, size: int, random_pop: bool) -> None:
        self.size, self.random_pop = size, random_pop
        self.items: list[dict] = []

    def push(self, results: dict) -> None:
        self.items.append(copy.deepcopy(results))
        if len(self.items) > self.size:
            self.items.pop(random.randint(0, len(self.items) - 1) if self.random_pop else 0)

    def take(self, index: int) -> dict:
        return _own(self.items[index])


class _Cached:
    """What the transforms with a cache have in common."""

    def _start_cache(self, least: int, max_cached_images: int, random_pop: bool) -> None:
        if max_cached_images < least:
            raise UserValueError(f'max_cached_images must be at least {least}, not {max_cached_images}')
        self.max_cached_images = max_cached_images
        self.random_pop = random_pop
        self.cache = _Cache(max_cached_images, random_pop)

    @property
    def results_cache(self) -> list[dict]:
        return self.cache.items


def _own(sample: dict) -> dict:
    """A sample whose instances may be changed without changing those of the given one."""
    return {key: copy.deepcopy(value) if key in INSTANCE_KEYS else value for key, value in sample.items()}


def _partners(results: dict, count: int, name: str) -> list[dict]:
    """Copies of the ``count`` samples of ``mix_results``."""
    if 'mix_results' not in results:
        raise UserKeyError(f'{name} needs mix_results, the samples to mix with: use it in a MultiImageMixDataset')
    if len(results['mix_results']) != count:
        raise UserValueError(f'{name} needs {count} partner(s) in mix_results, not {len(results["mix_results"])}')
    return [_own(sample) for sample in results['mix_results']]


def _scale_argument(img_scale) -> tuple[int, int]:
    if not isinstance(img_scale, (tuple, list)) or len(img_scale) != 2:
        raise UserValueError(f'img_scale must be (width, height), not {img_scale!r}')
    return tuple(img_scale)


def _probability(prob: float) -> float:
    if not 0 <= prob <= 1:
        raise UserValueError(f'prob must be from 0 to 1, not {prob}')
    return prob


@TRANSFORMS.register_module()
class Mosaic(BaseTransform):
    """Four images around a random centre of a canvas twice ``img_scale`` (YOLOv4, arXiv:2004.10934).

    Each image is resized to fit ``img_scale``; what leaves the canvas is cut.

    Args:
        img_scale: (width, height) of one cell.
        center_ratio_range: The centre relative to ``img_scale``.
        bbox_clip_border: Clip boxes to the canvas.
        pad_val: Fill of the canvas.
        prob: Probability of doing it at all.
    """

    PLACES = 'top_left', 'top_right', 'bottom_left', 'bottom_right'

    def __init__(
        self,
        img_scale: tuple[int, int] = (640, 640),
        center_ratio_range: tuple[float, float] = (0.5, 1.5),
        bbox_clip_border: bool = True,
        pad_val: float = 114.0,
        prob: float = 1.0,
    ) -> None:
        self.img_scale = _scale_argument(img_scale)
        self.center_ratio_range = center_ratio_range
        self.bbox_clip_border = bbox_clip_border
        self.pad_val = pad_val
        self.prob = _probability(prob)

    @cache_randomness
    def get_indexes(self, dataset) -> list[int]:
        """The three partners."""
        return [random.randint(0, len(dataset) - 1) for _ in range(3)]

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        partners = _partners(results, 3, 'Mosaic')
        if random.uniform(0, 1) > self.prob:
            return results
        return self._mosaic(results, partners)

    def _mosaic_combine(
        self, loc: str, center_position_xy: Sequence[float], img_shape_wh: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Where an image of (width, height) lies on the canvas, and which part of it does: both x1, y1, x2, y2.

        Args:
            loc: One of ``PLACES``, as seen from the centre (x, y).
        """
        (width, height), (center_x, center_y) = img_shape_wh, center_position_xy
        x = int(center_x) - (width if loc.endswith('left') else 0)
        y = int(center_y) - (height if loc.startswith('top') else 0)
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, 2 * self.img_scale[0]), min(y + height, 2 * self.img_scale[1])
        return (left, top, right, bottom), (left - x, top - y, right - x, bottom - y)

    def _mosaic(self, results: dict, partners: list[dict]) -> dict:
        width, height = self.img_scale
        shape = (2 * height, 2 * width)
        canvas = np.full((*shape, *results['img'].shape[2:]), self.pad_val, dtype=results['img'].dtype)
        center_x = int(random.uniform(*self.center_ratio_range) * width)
        center_y = int(random.uniform(*self.center_ratio_range) * height)
        parts = [dict(results), *partners]
        for place, part in zip(self.PLACES, parts, strict=True):
            img = part['img']
            ratio = min(height / img.shape[0], width / img.shape[1])
            img = mmcv.imresize(img, _scaled(img, ratio))
            (left, top, right, bottom), (x1, y1, x2, y2) = self._mosaic_combine(
                place, (center_x, center_y), img.shape[1::-1]
            )
            canvas[top:bottom, left:right] = img[y1:y2, x1:x2]
            _move(part, ratio, left - x1, top - y1, shape)
        _join_instances(results, parts)
        set_image(results, canvas)
        _drop_outside(results, shape, self.bbox_clip_border)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(img_scale={self.img_scale}, center_ratio_range={self.center_ratio_range}, '
            f'pad_val={self.pad_val}, prob={self.prob})'
        )


@TRANSFORMS.register_module()
class CachedMosaic(_Cached, Mosaic):
    """:class:`Mosaic` with partners from the images seen last (RTMDet, arXiv:2212.07784, Sec. 3.3).

    Args:
        max_cached_images: Size of the cache.
        random_pop: A full cache loses a random image instead of the oldest.
    """

    def __init__(self, *args, max_cached_images: int = 40, random_pop: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._start_cache(4, max_cached_images, random_pop)

    def get_indexes(self, cache: list[dict]) -> list[int]:
        return super().get_indexes(cache)

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        self.cache.push(results)
        if len(self.cache.items) <= 4 or random.uniform(0, 1) > self.prob:
            return results
        return self._mosaic(results, [self.cache.take(i) for i in self.get_indexes(self.cache.items)])


@TRANSFORMS.register_module()
class MixUp(BaseTransform):
    """The mean of an image and another one, which is resized, jittered and flipped (YOLOX, arXiv:2107.08430).

    Args:
        img_scale: (width, height) that the other image is fitted into.
        ratio_range: Further random scaling of it.
        flip_ratio: It is flipped with probability ``1 - flip_ratio``.
        pad_val: Fill around it.
        max_iters: How often to look for an image with boxes.
        bbox_clip_border: Clip its boxes.
    """

    def __init__(
        self,
        img_scale: tuple[int, int] = (640, 640),
        ratio_range: tuple[float, float] = (0.5, 1.5),
        flip_ratio: float = 0.5,
        pad_val: float = 114.0,
        max_iters: int = 15,
        bbox_clip_border: bool = True,
    ) -> None:
        self.dynamic_scale = _scale_argument(img_scale)
        self.ratio_range = ratio_range
        self.flip_ratio = flip_ratio
        self.pad_val = pad_val
        self.max_iters = max_iters
        self.bbox_clip_border = bbox_clip_border

    @cache_randomness
    def get_indexes(self, dataset) -> int:
        """The partner: an image with boxes, if ``max_iters`` draws find one."""
        for _ in range(self.max_iters):
            index = random.randint(0, len(dataset) - 1)
            if self._has_boxes(dataset, index):
                break
        return index

    @staticmethod
    def _has_boxes(dataset, index: int) -> bool:
        if hasattr(dataset, 'get_data_info'):  # without decoding the image
            return bool(dataset.get_data_info(index).get('instances'))
        return len(dataset[index]['gt_bboxes']) > 0

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        return self._mix(results, *_partners(results, 1, 'MixUp'))

    def _mix(self, results: dict, other: dict) -> dict:
        if len(other['gt_bboxes']) == 0:
            return results
        jitter = random.uniform(*self.ratio_range)
        flip = random.uniform(0, 1) > self.flip_ratio
        width, height = self.dynamic_scale
        img = other['img']
        ratio = min(height / img.shape[0], width / img.shape[1])
        img = mmcv.imresize(img, _scaled(img, ratio))
        padded = np.full((height, width, *img.shape[2:]), self.pad_val, dtype=img.dtype)
        padded[: img.shape[0], : img.shape[1]] = img
        padded = mmcv.imresize(padded, at_least_a_pixel(width * jitter, height * jitter))
        if flip:
            padded = padded[:, ::-1]
        shape, target = padded.shape[:2], results['img'].shape[:2]
        canvas = np.full(
            (max(shape[0], target[0]), max(shape[1], target[1]), *img.shape[2:]), self.pad_val, dtype=img.dtype
        )
        canvas[: shape[0], : shape[1]] = padded
        y = random.randint(0, max(canvas.shape[0] - target[0] - 1, 0))
        x = random.randint(0, max(canvas.shape[1] - target[1] - 1, 0))
        window = canvas[y : y + target[0], x : x + target[1]]
        self._move_instances(other, ratio * jitter, shape, flip, (x, y), target)
        mixed = 0.5 * results['img'].astype(np.float32) + 0.5 * window.astype(np.float32)
        _join_instances(results, [dict(results), other])
        set_image(results, mixed.astype(np.uint8))
        select_instances(results, results['gt_bboxes'].is_inside(target).numpy())
        return results

    def _move_instances(self, other: dict, ratio: float, shape, flip: bool, offset, target) -> None:
        _move(other, ratio, 0, 0, shape)
        boxes = other['gt_bboxes']
        if self.bbox_clip_border:
            boxes.clip_(shape)
        if flip:
            boxes.flip_(shape, 'horizontal')
            if other.get('gt_masks') is not None:
                other['gt_masks'] = other['gt_masks'].flip()
            move_keypoints(other, np.array([[-1, 0, shape[1]], [0, 1, 0], [0, 0, 1]], dtype=np.float32))
            if other.get('gt_keypoints') is not None and 'flip_indices' in other:
                other['gt_keypoints'] = other['gt_keypoints'][:, list(other['flip_indices'])]
        other['img'] = np.empty((*shape, 0))  # its size is all that is read of it from here on
        _move(other, 1, -offset[0], -offset[1], target)
        if self.bbox_clip_border:
            boxes.clip_(target)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(dynamic_scale={self.dynamic_scale}, ratio_range={self.ratio_range}, '
            f'flip_ratio={self.flip_ratio}, pad_val={self.pad_val}, max_iters={self.max_iters}, '
            f'bbox_clip_border={self.bbox_clip_border})'
        )


@TRANSFORMS.register_module()
class CachedMixUp(_Cached, MixUp):
    """:class:`MixUp` with a partner from the images seen last (RTMDet, arXiv:2212.07784, Sec. 3.3)."""

    def __init__(
        self, *args, max_cached_images: int = 20, random_pop: bool = True, prob: float = 1.0, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.prob = _probability(prob)
        self._start_cache(2, max_cached_images, random_pop)

    def get_indexes(self, cache: list[dict]) -> int:
        return super().get_indexes(cache)

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        self.cache.push(results)
        if len(self.cache.items) <= 1 or random.uniform(0, 1) > self.prob:
            return results
        return self._mix(results, self.cache.take(self.get_indexes(self.cache.items)))


@TRANSFORMS.register_module()
class CopyPaste(BaseTransform):
    """Paste instances of another image of the same size onto this one (arXiv:2012.07177).

    An instance below keeps its visible part; it is dropped when its box moved by more than ``bbox_occluded_thr``
    pixels and its mask has at most ``mask_occluded_thr`` pixels left.

    Args:
        max_num_pasted: Paste fewer than this.
        selected: Paste a random part of the instances instead of all.
        paste_by_box: Without masks, paste the boxes.
    """

    def __init__(
        self,
        max_num_pasted: int = 100,
        bbox_occluded_thr: int = 10,
        mask_occluded_thr: int = 300,
        selected: bool = True,
        paste_by_box: bool = False,
    ) -> None:
        self.max_num_pasted = max_num_pasted
        self.bbox_occluded_thr = bbox_occluded_thr
        self.mask_occluded_thr = mask_occluded_thr
        self.selected = selected
        self.paste_by_box = paste_by_box

    @cache_randomness
    def get_indexes(self, dataset) -> int:
        """The picture whose objects are pasted."""
        return random.randint(0, len(dataset) - 1)

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        (other,) = _partners(results, 1, 'CopyPaste')
        for sample in (results, other):
            sample['gt_masks'] = self.get_gt_masks(sample)
        if self.selected:
            self._select_object(other)
        pasted = self._copy_paste(results, other)
        if self.paste_by_box:
            pasted.pop('gt_masks')
        return pasted

    def get_gt_masks(self, results: dict) -> BitmapMasks | PolygonMasks:
        """The masks of a sample; with ``paste_by_box`` those of its boxes where it has none."""
        if 'gt_masks' in results:
            return results['gt_masks']
        if not self.paste_by_box:
            raise UserKeyError('CopyPaste needs gt_masks: load masks, or set paste_by_box=True')
        return results['gt_bboxes'].create_masks(results['img'].shape[:2])

    @cache_randomness
    def _get_selected_inds(self, num_bboxes: int) -> np.ndarray:
        count = np.random.randint(0, min(num_bboxes + 1, self.max_num_pasted))
        return np.random.choice(num_bboxes, size=count, replace=False)

    def _select_object(self, results: dict) -> None:
        keep = np.zeros(len(results['gt_bboxes']), dtype=bool)
        keep[self._get_selected_inds(len(keep))] = True
        select_instances(results, keep)

    def _get_updated_masks(self, masks: BitmapMasks | PolygonMasks, composed_mask: np.ndarray) -> BitmapMasks:
        """What stays visible of masks under ``composed_mask (H, W)``."""
        return BitmapMasks(np.where(composed_mask, 0, masks.to_ndarray()), *composed_mask.shape)

    def _copy_paste(self, dst_results: dict, src_results: dict) -> dict:
        results, other = dst_results, src_results
        if len(other['gt_bboxes']) == 0:
            return results
        above = other['gt_masks'].to_ndarray().any(0)
        if above.shape != results['img'].shape[:2]:
            raise UserValueError(
                f'CopyPaste needs images of one size, not {results["img"].shape[:2]} and {above.shape}: '
                'resize, crop and pad before it'
            )
        visible = self._get_updated_masks(results['gt_masks'], above)
        boxes = visible.get_bboxes(type(results['gt_bboxes']))
        unmoved = ((boxes.tensor - results['gt_bboxes'].tensor).abs() <= self.bbox_occluded_thr).all(-1).numpy()
        keep = unmoved | (visible.masks.sum((1, 2)) > self.mask_occluded_thr)
        results['gt_bboxes'], results['gt_masks'] = boxes, visible
        select_instances(results, keep)
        other['gt_masks'] = BitmapMasks(other['gt_masks'].to_ndarray(), *above.shape)
        _join_instances(results, [dict(results), other])
        results['img'] = np.where(above[..., None], other['img'], results['img'])
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(max_num_pasted={self.max_num_pasted}, '
            f'bbox_occluded_thr={self.bbox_occluded_thr}, mask_occluded_thr={self.mask_occluded_thr}, '
            f'selected={self.selected}, paste_by_box={self.paste_by_box})'
        )


@TRANSFORMS.register_module()
class CachedCopyBlend(_Cached, BaseTransform):
    """Objects of the images seen last, blended into this one (Copy-Blend of DEIMv2, arXiv:2509.20787).

    Unlike in :class:`CopyPaste` what lies below shines through, so that it stays an object, and only the boxes travel,
    not the pictures around them. An object keeps its size; one that, with its margin, is larger than this image is
    left out.

    Args:
        num_objects: So many are drawn among the objects of the cache, or all where there are fewer.
        min_area: Smaller boxes, in pixels, are not drawn.
        expand_ratio: Range of the margin that is blended along with a box on each side, in parts of its width and
            height. The box itself does not grow.
        blend_ratio: Range of the weight of this image where an object lies.
        max_cached_images, random_pop, prob: As for :class:`CachedMixUp`.
    """

    def __init__(
        self,
        num_objects: int = 3,
        min_area: float = 100,
        expand_ratio: tuple[float, float] = (0.1, 0.25),
        blend_ratio: tuple[float, float] = (0.45, 0.55),
        max_cached_images: int = 20,
        random_pop: bool = True,
        prob: float = 1.0,
    ) -> None:
        if num_objects < 1:
            raise UserValueError(f'num_objects must be at least 1, not {num_objects}')
        for name, (low, high), most in (('expand_ratio', expand_ratio, np.inf), ('blend_ratio', blend_ratio, 1)):
            if not 0 <= low <= high <= most:
                raise UserValueError(f'{name} must be two numbers from 0 to {most}, not {(low, high)}')
        self.num_objects = num_objects
        self.min_area = min_area
        self.expand_ratio = expand_ratio
        self.blend_ratio = blend_ratio
        self.prob = _probability(prob)
        self._start_cache(2, max_cached_images, random_pop)

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        others = list(self.cache.items)
        self.cache.push(results)
        if not others or random.uniform(0, 1) > self.prob:
            return results
        pairs = [
            (picture, index)
            for picture, other in enumerate(others)
            for index in np.flatnonzero(other['gt_bboxes'].areas.numpy() >= self.min_area)
        ]
        parts, img = [dict(results)], results['img'].copy()
        for picture, index in random.sample(pairs, min(self.num_objects, len(pairs))):
            parts += self._blend(img, _own(others[picture]), int(index))
        _join_instances(results, parts)
        set_image(results, img)
        return results

    def _blend(self, img: np.ndarray, other: dict, index: int) -> list[dict]:
        """Blend an object of another image into ``img``, in place; its sample in the new place, none if too large."""
        height, width = other['img'].shape[:2]
        select_instances(other, np.arange(len(other['gt_bboxes'])) == index)
        x1, y1, x2, y2 = other['gt_bboxes'].numpy()[0]
        margin = random.uniform(*self.expand_ratio)
        left, top = max(int(x1 - margin * (x2 - x1)), 0), max(int(y1 - margin * (y2 - y1)), 0)
        right = min(int(np.ceil(x2 + margin * (x2 - x1))), width)
        bottom = min(int(np.ceil(y2 + margin * (y2 - y1))), height)
        room_x, room_y = img.shape[1] - (right - left), img.shape[0] - (bottom - top)
        if room_x < 0 or room_y < 0:
            return []
        x, y = random.randint(0, room_x), random.randint(0, room_y)
        part = random.uniform(*self.blend_ratio)
        below = img[y : y + bottom - top, x : x + right - left]
        below[:] = part * below.astype(np.float32) + (1 - part) * other['img'][top:bottom, left:right]
        _move(other, 1, x - left, y - top, img.shape[:2])
        return [other]

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_objects={self.num_objects}, min_area={self.min_area}, '
            f'expand_ratio={self.expand_ratio}, blend_ratio={self.blend_ratio}, '
            f'max_cached_images={self.max_cached_images}, random_pop={self.random_pop}, prob={self.prob})'
        )
