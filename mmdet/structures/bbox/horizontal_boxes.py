"""Axis-aligned boxes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.structures.bbox.base_boxes import BaseBoxes
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps
from mmdet.structures.bbox.box_type import register_box
from mmdet.structures.bbox.transforms import bbox_cxcywh_to_xyxy, bbox_flip, bbox_xyxy_to_cxcywh

if TYPE_CHECKING:
    from mmdet.structures.mask import BitmapMasks, PolygonMasks


@register_box(name='hbox')
class HorizontalBoxes(BaseBoxes):
    """Boxes (..., 4) as x1, y1, x2, y2 in pixels.

    Args:
        in_mode: ``'cxcywh'`` if ``data`` holds centres and sizes; ``None`` and ``'xyxy'`` mean corners.
    """

    box_dim = 4

    def __init__(self, data, dtype=None, device=None, clone: bool = True, in_mode: str | None = None) -> None:
        super().__init__(data, dtype=dtype, device=device, clone=clone)
        if in_mode not in (None, 'xyxy', 'cxcywh'):
            raise UserValueError(f'in_mode must be xyxy or cxcywh, not {in_mode!r}')
        if in_mode == 'cxcywh':
            self.tensor = self.cxcywh_to_xyxy(self.tensor)

    @staticmethod
    def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
        """Corners of boxes ``(..., 4)`` given by centre and sides."""
        return bbox_cxcywh_to_xyxy(boxes)

    @staticmethod
    def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
        """Centre and sides of boxes ``(..., 4)`` given by their corners."""
        return bbox_xyxy_to_cxcywh(boxes)

    @property
    def cxcywh(self) -> Tensor:
        """Centre and sides ``(..., 4)``."""
        return self.xyxy_to_cxcywh(self.tensor)

    @property
    def centers(self) -> Tensor:
        return (self.tensor[..., :2] + self.tensor[..., 2:]) / 2.0

    @property
    def areas(self) -> Tensor:
        return self.widths * self.heights

    @property
    def widths(self) -> Tensor:
        return self.tensor[..., 2] - self.tensor[..., 0]

    @property
    def heights(self) -> Tensor:
        return self.tensor[..., 3] - self.tensor[..., 1]

    def flip_(self, img_shape: tuple[int, int], direction: str = 'horizontal') -> None:
        self.tensor = bbox_flip(self.tensor, img_shape, direction)

    def translate_(self, distances: tuple[float, float]) -> None:
        if len(distances) != 2:
            raise UserValueError(f'distances are (x, y), not {distances!r}')
        self.tensor = self.tensor + self.tensor.new_tensor(distances).repeat(2)

    def clip_(self, img_shape: tuple[int, int]) -> None:
        self.tensor[..., 0::2] = self.tensor[..., 0::2].clamp(0, img_shape[1])
        self.tensor[..., 1::2] = self.tensor[..., 1::2].clamp(0, img_shape[0])

    def rotate_(self, center: tuple[float, float], angle: float) -> None:
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        rotation = self.tensor.new_tensor([[cos, -sin], [sin, cos]])  # y points down: clockwise
        origin = self.tensor.new_tensor(center)
        corners = self.hbox2corner(self.tensor)
        self.tensor = self.corner2hbox((corners - origin) @ rotation.T + origin)

    def project_(self, homography_matrix: Tensor | np.ndarray) -> None:
        matrix = torch.as_tensor(homography_matrix).to(self.tensor)
        corners = self.hbox2corner(self.tensor)
        corners = torch.cat([corners, torch.ones_like(corners[..., :1])], dim=-1) @ matrix.T
        self.tensor = self.corner2hbox(corners[..., :2] / corners[..., 2:3])

    @staticmethod
    def hbox2corner(boxes: Tensor) -> Tensor:
        """(..., 4) -> (..., 4, 2): top left, top right, bottom left, bottom right."""
        return boxes[..., [0, 1, 2, 1, 0, 3, 2, 3]].unflatten(-1, (4, 2))

    @staticmethod
    def corner2hbox(corners: Tensor) -> Tensor:
        """(..., K, 2) -> (..., 4): the box around the points."""
        if corners.numel() == 0:
            return corners.new_zeros(*corners.shape[:-2], 4)
        return torch.cat([corners.amin(-2), corners.amax(-2)], dim=-1)

    def rescale_(self, scale_factor: tuple[float, float]) -> None:
        if len(scale_factor) != 2:
            raise UserValueError(f'scale_factor is (w, h), not {scale_factor!r}')
        self.tensor = self.tensor * self.tensor.new_tensor(scale_factor).repeat(2)

    def resize_(self, scale_factor: tuple[float, float]) -> None:
        if len(scale_factor) != 2:
            raise UserValueError(f'scale_factor is (w, h), not {scale_factor!r}')
        cxcywh = self.cxcywh
        sizes = cxcywh[..., 2:] * cxcywh.new_tensor(scale_factor)
        self.tensor = self.cxcywh_to_xyxy(torch.cat([cxcywh[..., :2], sizes], dim=-1))

    def is_inside(self, img_shape: tuple[int, int], all_inside: bool = False, allowed_border: int = 0) -> Tensor:
        height, width = img_shape[0] + allowed_border, img_shape[1] + allowed_border
        x1, y1, x2, y2 = self.tensor.unbind(-1)
        if all_inside:
            return (x1 >= -allowed_border) & (y1 >= -allowed_border) & (x2 < width) & (y2 < height)
        return (x1 < width) & (y1 < height) & (x2 > -allowed_border) & (y2 > -allowed_border)

    def find_inside_points(self, points: Tensor, is_aligned: bool = False) -> Tensor:
        if points.dim() != 2 or points.size(-1) != 2 or self.tensor.dim() != 2:
            raise UserValueError(
                f'points are (M, 2) and boxes (N, 4), not {tuple(points.shape)} and {tuple(self.shape)}'
            )
        boxes = self.tensor
        if is_aligned:
            if len(points) != len(boxes):
                raise UserValueError(f'{len(points)} points are not aligned with {len(boxes)} boxes')
        else:
            boxes, points = boxes[None], points[:, None]
        x1, y1, x2, y2 = boxes.unbind(-1)
        x, y = points.unbind(-1)
        return (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)

    def create_masks(self, img_shape: tuple[int, int]) -> BitmapMasks:
        """The boxes as masks, filled."""
        from mmdet.structures.mask import BitmapMasks

        masks = np.zeros((len(self), *img_shape), dtype=np.uint8)
        for mask, box in zip(masks, self.tensor.round().long().clamp(min=0).tolist(), strict=True):
            mask[box[1] : box[3], box[0] : box[2]] = 1
        return BitmapMasks(masks, *img_shape)

    @staticmethod
    def overlaps(
        boxes1: BaseBoxes, boxes2: BaseBoxes, mode: str = 'iou', is_aligned: bool = False, eps: float = 1e-6
    ) -> Tensor:
        return bbox_overlaps(boxes1.tensor, boxes2.tensor, mode=mode, is_aligned=is_aligned, eps=eps)

    @staticmethod
    def from_instance_masks(masks: BitmapMasks | PolygonMasks) -> HorizontalBoxes:
        boxes = np.zeros((len(masks), 4), dtype=np.float32)
        if isinstance(masks.masks, np.ndarray):
            for box, mask in zip(boxes, masks.masks, strict=True):
                x, y = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
                if len(x):
                    box[:] = x[0], y[0], x[-1] + 1, y[-1] + 1  # pixels have a width
        else:
            for box, polygons in zip(boxes, masks.masks, strict=True):
                if polygons:
                    points = np.concatenate(polygons).reshape(-1, 2)
                    box[:2], box[2:] = points.min(0), points.max(0)
        return HorizontalBoxes(boxes)
