"""Sampling of feature maps at points in relative coordinates, (0, 0) top left and (1, 1) bottom right."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def point_sample(input: Tensor, points: Tensor, align_corners: bool = False, **kwargs) -> Tensor:
    """``grid_sample`` with coordinates in ``[0, 1]``.

    Args:
        input: Shape (N, C, H, W).
        points: x and y, shape (N, P, 2) or (N, rows, columns, 2).
        kwargs: Further arguments of ``torch.nn.functional.grid_sample``.

    Returns:
        Shape (N, C, P) or (N, C, rows, columns).
    """
    grid = points.to(input.dtype) if points.dim() == 4 else points.to(input.dtype).unsqueeze(2)
    if not input.numel() or not grid.numel():
        output = input.new_zeros(len(input), input.size(1), *grid.shape[1:3]) + (input.sum() + grid.sum()) * 0
    else:
        output = F.grid_sample(input, grid * 2 - 1, align_corners=align_corners, **kwargs)
    return output if points.dim() == 4 else output.squeeze(3)


def rel_roi_point_to_rel_img_point(
    rois: Tensor, rel_roi_points: Tensor, img: tuple[int, int] | Tensor, spatial_scale: float = 1.0
) -> Tensor:
    """From coordinates relative to RoIs to coordinates relative to a map.

    Args:
        rois: Shape (N, 4), or (N, 5) with the image index first.
        rel_roi_points: Shape (N, P, 2).
        img: Height and width of the map, or the map (B, C, H, W).
        spatial_scale: Cells of the map per pixel.

    Returns:
        Shape (N, P, 2).
    """
    corners = rois[:, -4:]
    with torch.no_grad():
        height, width = img if isinstance(img, (tuple, list)) else img.shape[-2:]
        origin, extent = corners[:, None, :2], (corners[:, 2:] - corners[:, :2])[:, None]
        absolute = rel_roi_points * extent + origin
        x, y = absolute.unbind(-1)
        return torch.stack([x / width, y / height], -1) * spatial_scale
