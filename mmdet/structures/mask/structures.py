"""Instance masks that move with their image: bitmaps and polygons."""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdet.errors import UserTypeError, UserValueError

from .polygons import clip_polygon, drawable, polygon_area
from .windows import MaskWindows

Scale = float | tuple[int, int]


def _interpolation(name: str) -> int:
    import cv2

    flags = {
        'nearest': cv2.INTER_NEAREST,
        'bilinear': cv2.INTER_LINEAR,
        'bicubic': cv2.INTER_CUBIC,
        'area': cv2.INTER_AREA,
        'lanczos': cv2.INTER_LANCZOS4,
    }
    if name not in flags:
        raise UserValueError(f'interpolation must be one of {", ".join(flags)}, not {name!r}')
    return flags[name]


def _rescaled_size(height: int, width: int, scale: Scale) -> tuple[int, int]:
    """(h, w) after multiplying by a number, or after fitting into (long edge, short edge)."""
    if isinstance(scale, (int, float)):
        if scale <= 0:
            raise UserValueError(f'scale must be positive, not {scale}')
        factor = scale
    else:
        factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return int(height * float(factor) + 0.5), int(width * float(factor) + 0.5)


def _shear_matrix(magnitude: float, direction: str) -> np.ndarray:
    if direction == 'horizontal':
        return np.array([[1, magnitude, 0], [0, 1, 0]], dtype=np.float32)
    if direction == 'vertical':
        return np.array([[1, 0, 0], [magnitude, 1, 0]], dtype=np.float32)
    raise UserValueError(f'shear direction must be horizontal or vertical, not {direction!r}')


def _rotation_matrix(center: tuple[float, float], angle: float, scale: float) -> np.ndarray:
    """Clockwise by ``angle`` degrees, since y points down."""
    a, b = scale * np.cos(np.deg2rad(angle)), scale * np.sin(np.deg2rad(angle))
    x, y = center
    return np.array([[a, -b, (1 - a) * x + b * y], [b, a, (1 - a) * y - b * x]])


class BaseInstanceMasks(metaclass=ABCMeta):
    """N masks of one image of size ``height`` x ``width``. Methods return new masks; shapes are (h, w)."""

    masks: Any
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.masks)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_masks={len(self)}, height={self.height}, width={self.width})'

    @classmethod
    @abstractmethod
    def cat(cls, masks: Sequence) -> BaseInstanceMasks:
        """All masks of several containers of one image size."""

    @property
    @abstractmethod
    def areas(self) -> np.ndarray:
        """(N,) areas in pixels."""

    def rescale(self, scale: Scale, interpolation: str = 'nearest') -> BaseInstanceMasks:
        """Resize with the aspect ratio kept: by a factor, or to fit into (long edge, short edge)."""
        return self.resize(_rescaled_size(self.height, self.width, scale), interpolation)

    @abstractmethod
    def resize(self, out_shape: tuple[int, int], interpolation: str = 'nearest') -> BaseInstanceMasks:
        """Resize to ``out_shape``."""

    @abstractmethod
    def flip(self, flip_direction: str = 'horizontal') -> BaseInstanceMasks:
        """Mirror; direction is horizontal, vertical or diagonal."""

    @abstractmethod
    def pad(self, out_shape: tuple[int, int], pad_val: int) -> BaseInstanceMasks:
        """Grow to ``out_shape`` at the right and the bottom."""

    @abstractmethod
    def crop(self, bbox: np.ndarray) -> BaseInstanceMasks:
        """Cut out the box (4,); the result is at least 1 x 1."""

    @abstractmethod
    def crop_and_resize(
        self,
        bboxes: np.ndarray | Tensor,
        out_shape: tuple[int, int],
        inds: np.ndarray | Tensor,
        device: str | torch.device = 'cpu',
        interpolation: str = 'bilinear',
        binarize: bool = True,
    ) -> BaseInstanceMasks:
        """For each box (M, 4), cut mask ``inds[i]`` to it and resize to ``out_shape``: targets of a mask head."""

    @abstractmethod
    def expand(self, expanded_h: int, expanded_w: int, top: int, left: int) -> BaseInstanceMasks:
        """Put the image at (left, top) of a larger canvas."""

    @abstractmethod
    def to_ndarray(self) -> np.ndarray:
        """(N, h, w) uint8."""

    def to_tensor(self, dtype: torch.dtype, device: str | torch.device) -> Tensor:
        """(N, h, w)."""
        return torch.as_tensor(self.to_ndarray(), dtype=dtype, device=device)

    @abstractmethod
    def translate(
        self,
        out_shape: tuple[int, int],
        offset: float,
        direction: str = 'horizontal',
        border_value: int = 0,
        interpolation: str = 'bilinear',
    ) -> BaseInstanceMasks:
        """Move by ``offset`` pixels along a direction, horizontal or vertical."""

    @abstractmethod
    def shear(
        self,
        out_shape: tuple[int, int],
        magnitude: float,
        direction: str = 'horizontal',
        border_value: int = 0,
        interpolation: str = 'bilinear',
    ) -> BaseInstanceMasks:
        """Move each row (horizontal) or column by ``magnitude`` times its coordinate."""

    @abstractmethod
    def rotate(
        self,
        out_shape: tuple[int, int],
        angle: float,
        center: tuple[float, float] | None = None,
        scale: float = 1.0,
        border_value: int = 0,
        interpolation: str = 'bilinear',
    ) -> BaseInstanceMasks:
        """Turn clockwise by ``angle`` degrees around ``center`` (x, y), by default the middle of the image."""

    def _center(self) -> tuple[float, float]:
        return (self.width - 1) * 0.5, (self.height - 1) * 0.5

    def get_bboxes(self, dst_type: str | type = 'hbox') -> Any:
        """The box around each mask, of a registered box type."""
        from mmdet.structures.bbox import get_box_type

        return get_box_type(dst_type)[1].from_instance_masks(self)


class BitmapMasks(BaseInstanceMasks):
    """Masks as bitmaps.

    :meth:`packed` ones hold windows of one bit a pixel until somebody asks for ``masks``: so they travel from the
    loader's workers to the device.

    Args:
        masks: (N, h, w) array, or a list of N (h, w) arrays.
    """

    _windows: MaskWindows | None = None
    _dense: np.ndarray

    def __init__(self, masks: np.ndarray | Sequence[np.ndarray], height: int, width: int) -> None:
        self.height, self.width = height, width
        if not isinstance(masks, (list, tuple, np.ndarray)):
            raise UserTypeError(f'bitmaps come as an array or a list of arrays, not as {type(masks).__name__}')
        if len(masks) == 0:
            self.masks = np.zeros((0, height, width), dtype=np.uint8)
            return
        if isinstance(masks, (list, tuple)):
            if not all(isinstance(mask, np.ndarray) and mask.ndim == 2 for mask in masks):
                raise UserTypeError('a list of bitmaps holds one (h, w) array for each object')
            masks = np.stack(list(masks))
        self.masks = masks
        if self.masks.shape[1:] != (height, width):
            raise UserValueError(f'bitmaps of shape {self.masks.shape} are not (N, {height}, {width})')

    @property
    def masks(self) -> np.ndarray:
        """(N, h, w)."""
        if self._windows is not None:
            self.masks = self._windows.unpack(self.height, self.width).view(self._dtype)
        return self._dense

    @masks.setter
    def masks(self, masks: np.ndarray) -> None:
        self._dense, self._dtype, self._windows = masks, masks.dtype, None

    @property
    def windows(self) -> MaskWindows | None:
        """The windows of packed masks, else None."""
        return self._windows

    def packed(self) -> BitmapMasks:
        """The same masks as windows, or these masks where values other than 0 and 1 forbid it."""
        windows = MaskWindows.pack(self.masks) if self._windows is None else self._windows
        return self if windows is None else self.with_windows(windows)

    def with_windows(self, windows: MaskWindows) -> BitmapMasks:
        """Masks of the same image out of ``windows``."""
        out = copy.copy(self)
        out._windows, out._dense = windows, np.zeros((0, 0, 0), self._dtype)
        return out

    def to(self, *args: Any, **kwargs: Any) -> BitmapMasks:
        """Packed masks on another device; arrays stay where they are, and no type is changed."""
        device, _, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        if self._windows is None or device is None:
            return self
        return self.with_windows(self._windows.to(device, non_blocking))

    def __len__(self) -> int:
        return len(self._dense if self._windows is None else self._windows)

    def _new(self, masks: np.ndarray | Sequence[np.ndarray], height: int, width: int) -> BitmapMasks:
        if len(masks) == 0:
            masks = np.zeros((0, height, width), dtype=self.masks.dtype)
        return type(self)(masks, height, width)

    def __getitem__(self, index: Any) -> BitmapMasks:
        """Masks at an index, slice, list or boolean mask; a single one stays a container of one."""
        if self._windows is not None:
            return self.with_windows(self._windows[index])
        masks = self.masks[index].reshape(-1, self.height, self.width)
        return self._new(masks, self.height, self.width)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.masks)

    @classmethod
    def random(
        cls,
        num_masks: int = 3,
        height: int = 32,
        width: int = 32,
        dtype: type = np.uint8,
        rng: int | np.random.RandomState | None = None,
    ) -> BitmapMasks:
        """Noise, for tests."""
        rng = rng if isinstance(rng, np.random.RandomState) else np.random.RandomState(rng)
        return cls((rng.rand(num_masks, height, width) > 0.1).astype(dtype), height=height, width=width)

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> BitmapMasks:
        _check_same_kind(cls, masks)
        return cls(np.concatenate([m.masks for m in masks]), masks[0].height, masks[0].width)

    @property
    def areas(self) -> np.ndarray:
        return self.masks.sum((1, 2))

    def resize(self, out_shape: tuple[int, int], interpolation: str = 'nearest') -> BitmapMasks:
        import cv2

        flag = _interpolation(interpolation)
        height, width = out_shape
        return self._new([cv2.resize(m, (width, height), interpolation=flag) for m in self._uint8()], height, width)

    def _uint8(self) -> np.ndarray:
        return self.masks.view(np.uint8) if self.masks.dtype == bool else self.masks

    def flip(self, flip_direction: str = 'horizontal') -> BitmapMasks:
        axes = {'horizontal': (2,), 'vertical': (1,), 'diagonal': (1, 2)}
        if flip_direction not in axes:
            raise UserValueError(f'flip direction must be one of {", ".join(axes)}, not {flip_direction!r}')
        return self._new(np.flip(self.masks, axes[flip_direction]), self.height, self.width)

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> BitmapMasks:
        bottom, right = out_shape[0] - self.height, out_shape[1] - self.width
        if self._windows is not None and pad_val == 0 and min(bottom, right) >= 0:
            out = copy.copy(self)
            out.height, out.width = out_shape
            return out
        masks = np.pad(self.masks, ((0, 0), (0, bottom), (0, right)), constant_values=pad_val)
        return self._new(masks, *out_shape)

    def crop(self, bbox: np.ndarray) -> BitmapMasks:
        x1, y1, x2, y2 = _clipped(bbox, self.height, self.width)
        height, width = max(y2 - y1, 1), max(x2 - x1, 1)
        masks = self.masks[:, y1 : y1 + height, x1 : x1 + width]
        return self._new(masks, *masks.shape[1:])

    def crop_and_resize(
        self,
        bboxes: np.ndarray | Tensor,
        out_shape: tuple[int, int],
        inds: np.ndarray | Tensor,
        device: str | torch.device = 'cpu',
        interpolation: str = 'bilinear',
        binarize: bool = True,
    ) -> BitmapMasks:
        """RoIAlign (arXiv:1703.06870) with as many samples per bin as it has pixels, then >= 0.5."""
        if len(self.masks) == 0:
            return self._new([], *out_shape)
        from torchvision.ops import roi_align

        boxes = torch.as_tensor(bboxes, dtype=torch.float32, device=device)
        # Only the masks that are asked for, each once.
        used, rows = torch.unique(torch.as_tensor(inds, device=device), return_inverse=True)
        masks = torch.as_tensor(self.masks[used.cpu().numpy()], dtype=torch.float32, device=device)
        rois = torch.cat([rows[:, None].to(boxes), boxes], dim=1)
        targets = roi_align(masks[:, None], rois, out_shape, 1.0, sampling_ratio=0, aligned=True).squeeze(1)
        if binarize:
            targets = targets >= 0.5
        return self._new(targets.cpu().numpy(), *out_shape)

    def expand(self, expanded_h: int, expanded_w: int, top: int, left: int) -> BitmapMasks:
        masks = np.zeros((len(self), expanded_h, expanded_w), dtype=self.masks.dtype)
        masks[:, top : top + self.height, left : left + self.width] = self.masks
        return self._new(masks, expanded_h, expanded_w)

    def _warp(
        self, matrix: np.ndarray, out_shape: tuple[int, int], border_value: int, interpolation: str
    ) -> BitmapMasks:
        import cv2

        flags, (height, width) = _interpolation(interpolation), out_shape
        masks = [
            cv2.warpAffine(m, matrix, (width, height), flags=flags, borderValue=border_value) for m in self._uint8()
        ]
        masks = [m.astype(self.masks.dtype) for m in masks]
        return self._new(masks, height, width)

    def translate(
        self,
        out_shape: tuple[int, int],
        offset: float,
        direction: str = 'horizontal',
        border_value: int = 0,
        interpolation: str = 'bilinear',
    ) -> BitmapMasks:
        return self._warp(_translation_matrix(offset, direction), out_shape, border_value, interpolation)

    def shear(
        self,
        out_shape: tuple[int, int],
        magnitude: float,
        direction: str = 'horizontal',
        border_value: int = 0,
        interpolation: str = 'bilinear',
    ) -> BitmapMasks:
        return self._warp(_shear_matrix(magnitude, direction), out_shape, border_value, interpolation)

    def rotate(
        self,
        out_shape: tuple[int, int],
        angle: float,
        center: tuple[float, float] | None = None,
        scale: float = 1.0,
        border_value: int = 0,
        interpolation: str = 'bilinear',
    ) -> BitmapMasks:
        return self._warp(
            _rotation_matrix(center or self._center(), angle, scale), out_shape, border_value, interpolation
        )

    def to_ndarray(self) -> np.ndarray:
        return self.masks


class PolygonMasks(BaseInstanceMasks):
    """Masks as polygons.

    Args:
        masks: For each object a list of polygons, each a flat array x0, y0, x1, y1, ... of at least three points.
            An object is the union of its polygons.
    """

    def __init__(self, masks: Sequence[Sequence[np.ndarray]], height: int, width: int) -> None:
        for polygons in masks:
            if not isinstance(polygons, (list, tuple)) or not all(isinstance(p, np.ndarray) for p in polygons):
                raise UserTypeError(f'masks hold a list of flat arrays for each object, not {polygons!r}')
        self.height, self.width = height, width
        self.masks = [list(polygons) for polygons in masks]

    def __getitem__(self, index: Any) -> PolygonMasks:
        """Masks at an index, slice, list or boolean mask; a single one stays a container of one."""
        picked = np.atleast_1d(np.arange(len(self))[index])
        return type(self)([self.masks[i] for i in picked], self.height, self.width)

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return iter(self.masks)

    @classmethod
    def random(
        cls,
        num_masks: int = 3,
        height: int = 32,
        width: int = 32,
        n_verts: int = 5,
        dtype: type = np.float32,
        rng: int | np.random.RandomState | None = None,
    ) -> PolygonMasks:
        """Star-shaped polygons inside the image, for tests."""
        rng = rng if isinstance(rng, np.random.RandomState) else np.random.RandomState(rng)
        masks = []
        for _ in range(num_masks):
            angle = np.sort(rng.rand(n_verts)) * 2 * np.pi
            center, radius = rng.rand(2) * 0.4 + 0.3, rng.rand(n_verts, 1) * 0.2 + 0.1
            points = center + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
            masks.append([(points * [width, height]).reshape(-1).astype(dtype)])
        return cls(masks, height, width)

    @classmethod
    def cat(cls, masks: Sequence[PolygonMasks]) -> PolygonMasks:
        _check_same_kind(cls, masks)
        return cls([polygons for m in masks for polygons in m.masks], masks[0].height, masks[0].width)

    def _polygon_area(self, x: np.ndarray, y: np.ndarray) -> float:
        return polygon_area(np.stack([x, y], -1).reshape(-1))

    @property
    def areas(self) -> np.ndarray:
        """(N,) areas; overlapping polygons of one object count twice."""
        return np.asarray([sum(polygon_area(p) for p in polygons) for polygons in self.masks])

    def _map(self, function, height: int, width: int) -> PolygonMasks:
        """``function`` of the (K, 2) points of each polygon."""
        masks = [
            [np.ascontiguousarray(function(p.reshape(-1, 2)), dtype=p.dtype).reshape(-1) for p in polygons]
            for polygons in self.masks
        ]
        return type(self)(masks, height, width)

    def _affine(self, matrix: np.ndarray, out_shape: tuple[int, int], border_value: int) -> PolygonMasks:
        if border_value not in (None, 0):
            raise UserValueError(f'polygons have no border to fill with {border_value}; border_value must be 0')
        limit = np.array([out_shape[1], out_shape[0]])
        return self._map(lambda xy: np.clip(xy @ matrix[:, :2].T + matrix[:, 2], 0, limit), *out_shape)

    def resize(self, out_shape: tuple[int, int], interpolation: str = 'nearest') -> PolygonMasks:
        factor = np.array([out_shape[1] / self.width, out_shape[0] / self.height])
        return self._map(lambda xy: xy * factor, *out_shape)

    def flip(self, flip_direction: str = 'horizontal') -> PolygonMasks:
        size = np.array([self.width, self.height])
        mirrored = {'horizontal': [True, False], 'vertical': [False, True], 'diagonal': [True, True]}
        if flip_direction not in mirrored:
            raise UserValueError(f'flip direction must be one of {", ".join(mirrored)}, not {flip_direction!r}')
        return self._map(lambda xy: np.where(mirrored[flip_direction], size - xy, xy), self.height, self.width)

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> PolygonMasks:
        return type(self)(self.masks, *out_shape)

    def crop(self, bbox: np.ndarray) -> PolygonMasks:
        """Clip to the box. An object that is cut away keeps its place as a polygon of area 0."""
        x1, y1, x2, y2 = _clipped(bbox, self.height, self.width)
        height, width = max(y2 - y1, 1), max(x2 - x1, 1)
        masks = []
        for polygons in self.masks:
            clipped = [clip_polygon(p.reshape(-1, 2) - [x1, y1], width, height) for p in polygons]
            kept = [
                points.reshape(-1).astype(p.dtype)
                for points, p in zip(clipped, polygons, strict=True)
                if len(points) > 2 and polygon_area(points.reshape(-1)) > 0
            ]
            masks.append(kept or [np.zeros(6, dtype=polygons[0].dtype if polygons else np.float32)])
        return type(self)(masks, height, width)

    def crop_and_resize(
        self,
        bboxes: np.ndarray | Tensor,
        out_shape: tuple[int, int],
        inds: np.ndarray | Tensor,
        device: str | torch.device = 'cpu',
        interpolation: str = 'bilinear',
        binarize: bool = True,
    ) -> PolygonMasks:
        """Points may lie outside the new image; drawing clips them."""
        if not binarize:
            raise UserValueError('polygons are binary: crop_and_resize with binarize=False needs BitmapMasks')
        bboxes, inds = (v.detach().cpu().numpy() if isinstance(v, Tensor) else np.asarray(v) for v in (bboxes, inds))
        masks = []
        for (x1, y1, x2, y2), index in zip(bboxes, inds, strict=True):
            factor = np.array([out_shape[1] / max(x2 - x1, 1), out_shape[0] / max(y2 - y1, 1)])
            masks.append(
                [((p.reshape(-1, 2) - [x1, y1]) * factor).reshape(-1).astype(p.dtype) for p in self.masks[int(index)]]
            )
        return type(self)(masks, *out_shape)

    def expand(self, expanded_h: int, expanded_w: int, top: int, left: int) -> PolygonMasks:
        return self._map(lambda xy: xy + [left, top], expanded_h, expanded_w)

    def translate(
        self,
        out_shape: tuple[int, int],
        offset: float,
        direction: str = 'horizontal',
        border_value: int = 0,
        interpolation: str = 'bilinear',
    ) -> PolygonMasks:
        return self._affine(_translation_matrix(offset, direction), out_shape, border_value)

    def shear(
        self,
        out_shape: tuple[int, int],
        magnitude: float,
        direction: str = 'horizontal',
        border_value: int = 0,
        interpolation: str = 'bilinear',
    ) -> PolygonMasks:
        return self._affine(_shear_matrix(magnitude, direction), out_shape, border_value)

    def rotate(
        self,
        out_shape: tuple[int, int],
        angle: float,
        center: tuple[float, float] | None = None,
        scale: float = 1.0,
        border_value: int = 0,
        interpolation: str = 'bilinear',
    ) -> PolygonMasks:
        return self._affine(_rotation_matrix(center or self._center(), angle, scale), out_shape, border_value)

    def to_bitmap(self) -> BitmapMasks:
        """The same masks as pixels."""
        return BitmapMasks(self.to_ndarray(), self.height, self.width)

    def to_ndarray(self) -> np.ndarray:
        bitmaps = np.zeros((len(self), self.height, self.width), dtype=np.uint8)
        for bitmap, polygons in zip(bitmaps, self.masks, strict=True):
            bitmap[:] = polygon_to_bitmap(polygons, self.height, self.width)
        return bitmaps


def _check_same_kind(kind: type, masks: Any) -> None:
    if not isinstance(masks, Sequence) or not all(isinstance(m, kind) for m in masks):
        raise UserTypeError(f'{kind.__name__}.cat takes a sequence of {kind.__name__}')
    if not masks:
        raise UserValueError('there are no masks to concatenate')


def _translation_matrix(offset: float, direction: str) -> np.ndarray:
    if direction not in ('horizontal', 'vertical'):
        raise UserValueError(f'translation direction must be horizontal or vertical, not {direction!r}')
    x, y = (offset, 0) if direction == 'horizontal' else (0, offset)
    return np.array([[1, 0, x], [0, 1, y]], dtype=np.float32)


def _clipped(bbox: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    bbox = np.asarray(bbox)
    if bbox.shape != (4,):
        raise UserValueError(f'crop takes one box (4,), not {bbox.shape}')
    x1, y1, x2, y2 = bbox.clip(0, [width, height, width, height]).astype(int).tolist()
    return x1, y1, x2, y2


def polygon_to_bitmap(polygons: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """(height, width) bool, drawn by COCO's rasteriser."""
    from pycocotools import mask as coco_mask

    polygons = drawable(polygons, height, width)
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    rles = coco_mask.frPyObjects([p.tolist() for p in polygons], height, width)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


def bitmap_to_polygon(bitmap: np.ndarray) -> tuple[list[np.ndarray], bool]:
    """Outlines of a (h, w) mask, each (K, 2), and whether the mask has a hole."""
    import cv2

    bitmap = np.ascontiguousarray(bitmap).astype(np.uint8)
    contours, hierarchy = cv2.findContours(bitmap, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if hierarchy is None:
        return [], False
    return [c.reshape(-1, 2) for c in contours], bool((hierarchy.reshape(-1, 4)[:, 3] >= 0).any())
