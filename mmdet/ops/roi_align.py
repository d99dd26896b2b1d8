"""Pooling of regions. RoIs have shape (K, 5): image index and x1 y1 x2 y2 in pixels of the input image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmdet.registry import MODELS

from .bilinear import bilinear_bags

HALF = (torch.float16, torch.bfloat16)


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = 'avg',
    aligned: bool = True,
) -> Tensor:
    """RoIAlign (arXiv:1703.06870, Sec. 3). Half precision is pooled in full precision, for the sake of the RoIs.

    Args:
        input: Shape (B, C, H, W).
        spatial_scale: Cells of ``input`` per pixel.
        sampling_ratio: Samples per bin and axis; 0 takes one for each cell that a bin covers.
        pool_mode: ``'avg'``, or ``'max'``, which needs a positive ``sampling_ratio``.
        aligned: Shift by the half cell between pixel centres and corners.

    Returns:
        Shape (K, C, *output_size).
    """
    height, width = _pair(output_size)
    if input.dtype in HALF:
        with torch.autocast(input.device.type, enabled=False):
            full = roi_align(
                input.float(), rois.float(), output_size, spatial_scale, sampling_ratio, pool_mode, aligned
            )
        return full.to(input.dtype)
    if pool_mode not in ('avg', 'max'):
        raise ValueError(f"pool_mode={pool_mode!r} of roi_align is neither 'avg' nor 'max'.")
    if pool_mode == 'max' and sampling_ratio <= 0:
        raise ValueError(f"pool_mode='max' of roi_align needs a positive sampling_ratio, got {sampling_ratio}.")
    from torchvision.ops import roi_align as torchvision_roi_align

    rois = rois.to(input.dtype)
    if pool_mode == 'avg':
        return torchvision_roi_align(input, rois, (height, width), spatial_scale, sampling_ratio, aligned)
    ratio = sampling_ratio  # a finer grid with one sample in each bin holds the very samples to choose from
    samples = torchvision_roi_align(input, rois, (height * ratio, width * ratio), spatial_scale, 1, aligned)
    return F.max_pool2d(samples, ratio) if len(rois) else samples[:, :, :height, :width]


def roi_pool(input: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float = 1.0) -> Tensor:
    """Max pooling of regions with rounded borders (Fast R-CNN, Sec. 2.1)."""
    from torchvision.ops import roi_pool as torchvision_roi_pool

    if input.dtype in HALF:
        return roi_pool(input.float(), rois.float(), output_size, spatial_scale).to(input.dtype)
    return torchvision_roi_pool(input, rois.to(input.dtype), _pair(output_size), spatial_scale)


@MODELS.register_module()
class RoIAlign(nn.Module):
    """See :func:`roi_align`. ``use_torchvision`` is accepted for existing configs; it always is."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        pool_mode: str = 'avg',
        aligned: bool = True,
        use_torchvision: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = _pair(output_size)
        self.spatial_scale = float(spatial_scale)
        self.sampling_ratio = int(sampling_ratio)
        self.pool_mode = pool_mode
        self.aligned = aligned
        self.use_torchvision = use_torchvision

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.pool_mode, self.aligned
        )

    def extra_repr(self) -> str:
        return (
            f'output_size={self.output_size}, spatial_scale={self.spatial_scale}, '
            f'sampling_ratio={self.sampling_ratio}, pool_mode={self.pool_mode}, aligned={self.aligned}'
        )


@MODELS.register_module()
class RoIPool(nn.Module):
    """See :func:`roi_pool`."""

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float = 1.0) -> None:
        super().__init__()
        self.output_size = _pair(output_size)
        self.spatial_scale = float(spatial_scale)

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f'output_size={self.output_size}, spatial_scale={self.spatial_scale}'


@MODELS.register_module()
class SimpleRoIAlign(nn.Module):
    """One bilinear sample at the centre of each bin (PointRend, arXiv:1912.08193).

    Args:
        aligned: Cell centres lie half a cell inside the map, as with ``align_corners=False``.
    """

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float = 1.0, aligned: bool = True) -> None:
        super().__init__()
        self.output_size = _pair(output_size)
        self.spatial_scale = float(spatial_scale)
        self.use_torchvision = False
        self.aligned = aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Features (B, C, H, W) and RoIs (K, 5) give (K, C, *output_size)."""
        if features.dtype in HALF:
            return self(features.float(), rois.float()).to(features.dtype)
        rows, columns = self.output_size
        rois = rois.to(features.dtype)
        x1, y1, x2, y2 = (rois[:, 1:] * self.spatial_scale)[:, :, None, None].unbind(1)  # (K, 1, 1)
        center = lambda n: (torch.arange(n, device=rois.device, dtype=rois.dtype) + 0.5) / n
        x = (x1 + (x2 - x1) * center(columns)).expand(-1, rows, -1)
        y = (y1 + (y2 - y1) * center(rows)[:, None]).expand(-1, -1, columns)
        if self.aligned:
            x, y = x - 0.5, y - 0.5
        else:  # the corners of the map are the outermost cell centres
            height, width = features.shape[-2:]
            x, y = x * (width - 1) / width, y * (height - 1) / height
        image = rois[:, 0].long().repeat_interleave(rows * columns, output_size=len(rois) * rows * columns)
        sampled = bilinear_bags(features, image, x.reshape(-1, 1), y.reshape(-1, 1))
        return sampled.reshape(len(rois), rows, columns, features.size(1)).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f'output_size={self.output_size}, spatial_scale={self.spatial_scale}'
