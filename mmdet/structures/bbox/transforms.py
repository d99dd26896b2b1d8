"""Functions on boxes held as tensors. Boxes are xyxy in pixels unless the name says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.structures.bbox.base_boxes import BaseBoxes


def find_inside_bboxes(bboxes: Tensor, img_h: int, img_w: int) -> Tensor:
    """(N,) bool: which boxes have some part inside the image."""
    return (bboxes[:, 0] < img_w) & (bboxes[:, 2] > 0) & (bboxes[:, 1] < img_h) & (bboxes[:, 3] > 0)


def bbox_flip(bboxes: Tensor, img_shape: tuple[int, int], direction: str = 'horizontal') -> Tensor:
    """Mirror (..., 4*k) boxes in an image of ``img_shape`` (h, w); a copy."""
    if bboxes.shape[-1] % 4:
        raise UserValueError(f'the last dimension of boxes must be a multiple of 4, not {bboxes.shape[-1]}')
    if direction not in ('horizontal', 'vertical', 'diagonal'):
        raise UserValueError(f'flip direction must be horizontal, vertical or diagonal, not {direction!r}')
    flipped = bboxes.clone()
    if direction != 'vertical':
        flipped[..., 0::4] = img_shape[1] - bboxes[..., 2::4]
        flipped[..., 2::4] = img_shape[1] - bboxes[..., 0::4]
    if direction != 'horizontal':
        flipped[..., 1::4] = img_shape[0] - bboxes[..., 3::4]
        flipped[..., 3::4] = img_shape[0] - bboxes[..., 1::4]
    return flipped


def _factors(bboxes: Tensor, scale_factor: float | Sequence[float]) -> Tensor:
    """A number, (w, h) or (w, h, w, h) as a tensor that multiplies (..., 4) boxes."""
    scale = torch.as_tensor(scale_factor, dtype=bboxes.dtype, device=bboxes.device)
    return scale.repeat(2) if scale.numel() == 2 else scale


def bbox_mapping(
    bboxes: Tensor,
    img_shape: tuple[int, int],
    scale_factor: float | Sequence[float],
    flip: bool,
    flip_direction: str = 'horizontal',
) -> Tensor:
    """Boxes of the original image in the resized, then flipped one, whose shape is ``img_shape``."""
    bboxes = bboxes * _factors(bboxes, scale_factor)
    return bbox_flip(bboxes, img_shape, flip_direction) if flip else bboxes


def bbox_mapping_back(
    bboxes: Tensor,
    img_shape: tuple[int, int],
    scale_factor: float | Sequence[float],
    flip: bool,
    flip_direction: str = 'horizontal',
) -> Tensor:
    """Inverse of :func:`bbox_mapping`."""
    shape = bboxes.shape
    if flip:
        bboxes = bbox_flip(bboxes, img_shape, flip_direction)
    return (bboxes.reshape(-1, 4) / _factors(bboxes, scale_factor)).view(shape)


def bbox2roi(bbox_list: list[Tensor | BaseBoxes]) -> Tensor:
    """Boxes of each image -> RoIs (N, 1 + box_dim), whose first column is the image's index."""
    boxes = torch.cat([get_box_tensor(image) for image in bbox_list])
    column = [torch.full((len(image), 1), float(index), device='cpu') for index, image in enumerate(bbox_list)]
    return torch.cat([torch.cat(column).to(boxes, non_blocking=True), boxes], 1)


def roi2bbox(rois: Tensor) -> list[Tensor]:
    """RoIs -> boxes of each image that has any, in the order of the image indices."""
    return [rois[rois[:, 0] == index, 1:] for index in torch.unique(rois[:, 0])]


def bbox2result(bboxes: Tensor | np.ndarray, labels: Tensor | np.ndarray, num_classes: int) -> list[np.ndarray]:
    """(N, 5) boxes with scores -> one array per class, the result format of 2.x."""
    if isinstance(bboxes, Tensor):
        bboxes = bboxes.detach().cpu().numpy()
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    if len(bboxes) == 0:
        return [np.zeros((0, 5), dtype=np.float32) for _ in range(num_classes)]
    return [bboxes[labels == i] for i in range(num_classes)]


def distance2bbox(points: Tensor, distance: Tensor, max_shape: Any = None) -> Tensor:
    """Boxes from distances (left, top, right, bottom) to their sides.

    Args:
        points: (..., N, 2).
        distance: (..., N, 4).
        max_shape: (h, w, ...) that boxes are clipped to, a sequence or a tensor, or one per image for (B, N, 4)
            distances.
    """
    x, y = points[..., 0], points[..., 1]
    left, top, right, bottom = distance.unbind(-1)
    x1, y1, x2, y2 = x - left, y - top, x + right, y + bottom
    if max_shape is not None:
        if isinstance(max_shape, Tensor) or isinstance(max_shape[0], (Sequence, Tensor, np.ndarray)):
            if not isinstance(max_shape, Tensor):
                max_shape = x1.new_tensor([list(shape[:2]) for shape in max_shape])
            max_shape = max_shape[..., :2].to(x1)
            if max_shape.ndim == 2 and (x1.ndim != 2 or len(max_shape) != len(x1)):
                raise UserValueError(f'{len(max_shape)} image shapes for distances of shape {tuple(distance.shape)}')
            height, width = max_shape[..., 0, None], max_shape[..., 1, None]  # (B, 1) or (1,)
            x1, x2 = (torch.minimum(v.clamp(min=0), width) for v in (x1, x2))
            y1, y2 = (torch.minimum(v.clamp(min=0), height) for v in (y1, y2))
        else:
            x1, x2 = x1.clamp(0, max_shape[1]), x2.clamp(0, max_shape[1])
            y1, y2 = y1.clamp(0, max_shape[0]), y2.clamp(0, max_shape[0])
    return torch.stack([x1, y1, x2, y2], -1)


def bbox2distance(points: Tensor, bbox: Tensor, max_dis: float | None = None, eps: float = 0.1) -> Tensor:
    """Inverse of :func:`distance2bbox`; with ``max_dis`` the distances are kept in [0, max_dis - eps]."""
    x, y = points[..., 0], points[..., 1]
    x1, y1, x2, y2 = bbox.unbind(-1)
    distance = torch.stack([x - x1, y - y1, x2 - x, y2 - y], -1)
    return distance if max_dis is None else distance.clamp(min=0, max=max_dis - eps)


def bbox_rescale(bboxes: Tensor, scale_factor: float = 1.0) -> Tensor:
    """Grow or shrink (N, 4) boxes or (N, 5) RoIs around their centres."""
    if bboxes.size(1) not in (4, 5):
        raise UserValueError(f'bbox_rescale takes (N, 4) boxes or (N, 5) RoIs, not {tuple(bboxes.shape)}')
    boxes = bboxes[:, -4:]
    center = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    half = (boxes[:, 2:] - boxes[:, :2]) * (0.5 * scale_factor)
    return torch.cat([bboxes[:, :-4], center - half, center + half], dim=-1)


def bbox_cxcywh_to_xyxy(bbox: Tensor) -> Tensor:
    """(..., 4) centre and size -> corners."""
    center, size = bbox.split((2, 2), dim=-1)
    half = 0.5 * size
    return torch.cat([center - half, center + half], dim=-1)


def bbox_xyxy_to_cxcywh(bbox: Tensor) -> Tensor:
    """(..., 4) corners -> centre and size."""
    start, end = bbox.split((2, 2), dim=-1)
    return torch.cat([(start + end) / 2, end - start], dim=-1)


def with_ends_moved(boxes: Tensor, pixels: float) -> Tensor:
    """Corners ``(..., 4)`` whose second ones lie so many pixels farther right and down."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] + pixels], dim=-1)


def bbox_cxcyah_to_xyxy(bboxes: Tensor) -> Tensor:
    """(..., 4) centre, width / height and height -> corners"""
    cx, cy, ratio, height = bboxes.split((1, 1, 1, 1), dim=-1)
    width = ratio * height
    return torch.cat([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], dim=-1)


def bbox_xyxy_to_cxcyah(bboxes: Tensor) -> Tensor:
    """(..., 4) corners -> centre, width / height and height, as trackers have it."""
    x1, y1, x2, y2 = bboxes.split((1, 1, 1, 1), dim=-1)
    width, height = x2 - x1, y2 - y1
    return torch.cat([(x1 + x2) / 2, (y1 + y2) / 2, width / height, height], dim=-1)


def bbox2corner(bboxes: Tensor) -> Tensor:
    """(N, 4) -> (4N, 2): top left, top right, bottom left, bottom right of each box."""
    return bboxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 2)


def corner2bbox(corners: Tensor) -> Tensor:
    """(4N, 2) -> (N, 4): the box around each four points."""
    corners = corners.reshape(-1, 4, 2)
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


def bbox_project(
    bboxes: Tensor | np.ndarray,
    homography_matrix: Tensor | np.ndarray,
    img_shape: tuple[int, int] | None = None,
) -> Tensor | np.ndarray:
    """Boxes around the projected corners of (N, 4) boxes, clipped to ``img_shape`` (h, w) where it is given.

    A tensor gives a tensor, an array an array.
    """
    boxes = torch.as_tensor(bboxes)
    matrix = torch.as_tensor(homography_matrix).to(boxes)
    corners = bbox2corner(boxes)
    corners = torch.cat([corners, corners.new_ones(len(corners), 1)], dim=1) @ matrix.T
    boxes = corner2bbox(corners[:, :2] / corners[:, 2:3])
    if img_shape is not None:
        boxes[:, 0::2].clamp_(0, img_shape[1])
        boxes[:, 1::2].clamp_(0, img_shape[0])
    return boxes.numpy() if isinstance(bboxes, np.ndarray) else boxes


def cat_boxes(data_list: Any, dim: int = 0) -> Tensor | BaseBoxes:
    """``torch.cat`` for a list of tensors and a list of box containers alike."""
    if data_list and isinstance(data_list[0], BaseBoxes):
        return data_list[0].cat(data_list, dim=dim)
    return torch.cat(data_list, dim=dim)


def stack_boxes(data_list: Any, dim: int = 0) -> Tensor | BaseBoxes:
    """``torch.stack`` for a list of tensors and a list of box containers alike."""
    if data_list and isinstance(data_list[0], BaseBoxes):
        return data_list[0].stack(data_list, dim=dim)
    return torch.stack(data_list, dim=dim)


def scale_boxes(boxes: Tensor | BaseBoxes, scale_factor: tuple[float, float]) -> Tensor | BaseBoxes:
    """Multiply coordinates by ``scale_factor`` (w, h); containers are changed in place, tensors are not."""
    if isinstance(boxes, BaseBoxes):
        boxes.rescale_(scale_factor)
        return boxes
    return boxes * boxes.new_tensor(scale_factor).repeat(boxes.size(-1) // 2)


def get_box_wh(boxes: Tensor | BaseBoxes) -> tuple[Tensor, Tensor]:
    """Widths and heights."""
    if isinstance(boxes, BaseBoxes):
        return boxes.widths, boxes.heights
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def get_box_tensor(boxes: Tensor | BaseBoxes) -> Tensor:
    """The tensor inside a box container; a tensor is returned as it is."""
    return boxes.tensor if isinstance(boxes, BaseBoxes) else boxes


def empty_box_as(boxes: Tensor | BaseBoxes) -> Tensor | BaseBoxes:
    """No boxes, of the same kind, dtype and device."""
    return boxes.empty_boxes() if isinstance(boxes, BaseBoxes) else boxes.new_zeros(0, 4)
