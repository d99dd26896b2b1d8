"""Deformable RoI pooling (arXiv:1703.06211, Sec. 2.2; with modulation arXiv:1811.11168, Sec. 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .bilinear import bilinear_bags
from .deform_conv import zero_
from .roi_align import HALF, roi_align


def deform_roi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    gamma: float = 0.1,
) -> Tensor:
    """Average of bilinear samples in bins that are moved by offsets.

    Args:
        input: Shape (B, C, H, W).
        rois: Image index and x1 y1 x2 y2 in pixels, shape (K, 5).
        offset: Of each bin in x and y, shape (K, 2, *output_size), in units of ``gamma`` times the RoI's size.
            ``None`` is RoIAlign.
        sampling_ratio: Samples per bin and axis; 0 takes one for each cell that a bin covers, for which the greatest
            such number is read back to the host.

    Returns:
        Shape (K, C, *output_size).
    """
    if offset is None:
        return roi_align(input, rois, output_size, spatial_scale, sampling_ratio)
    if input.dtype in HALF:
        full = deform_roi_pool(
            input.float(), rois.float(), offset.float(), output_size, spatial_scale, sampling_ratio, gamma
        )
        return full.to(input.dtype)
    rows, columns = _pair(output_size)
    rois, offset = rois.to(input.dtype), offset.to(input.dtype)
    height, width = input.shape[-2:]
    corners = rois[:, 1:] * spatial_scale - 0.5
    origin, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]  # (K, 2)
    bins = extent / extent.new_tensor([columns, rows])
    if sampling_ratio > 0:
        most, counts = sampling_ratio, torch.full_like(bins, sampling_ratio)
    else:
        counts = bins.ceil().clamp(min=0)
        most = max(int(counts.max()), 1) if len(rois) else 1

    step = torch.arange(most, device=input.device, dtype=input.dtype)
    real = step < counts[..., None]  # (K, 2, S)
    counts = counts.clamp(min=1)
    within = (step + 0.5) / counts[..., None]  # where a sample lies in its bin

    def positions(axis: int, number: int, shift: Tensor) -> Tensor:
        """Coordinates along one axis, shape (K, rows, columns, S)."""
        index = torch.arange(number, device=input.device, dtype=input.dtype)
        index = index[None, :] if axis == 0 else index[:, None]
        start = origin[:, axis, None, None] + index * bins[:, axis, None, None]
        start = start + gamma * extent[:, axis, None, None] * shift
        return start[..., None] + (within[:, axis] * bins[:, axis, None])[:, None, None]

    x, y = positions(0, columns, offset[:, 0]), positions(1, rows, offset[:, 1])
    touches = lambda p, size: (p >= -1) & (p <= size)  # samples farther out are zero, nearer ones clamped
    x_weight = (touches(x, width) & real[:, 0, None, None]).to(input.dtype)
    y_weight = (touches(y, height) & real[:, 1, None, None]).to(input.dtype)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    weight = y_weight[..., :, None] * x_weight[..., None, :] / counts.prod(1)[:, None, None, None, None]
    shape = weight.shape
    bag = lambda t: t.expand(shape).reshape(-1, most * most)
    image = rois[:, 0].long()[:, None, None].expand(-1, rows, columns).reshape(-1)
    pooled = bilinear_bags(input, image, bag(x[..., None, :]), bag(y[..., :, None]), bag(weight))
    return pooled.reshape(len(rois), rows, columns, input.size(1)).permute(0, 3, 1, 2)


class DeformRoIPool(nn.Module):
    """See :func:`deform_roi_pool`."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
    ) -> None:
        super().__init__()
        self.output_size = _pair(output_size)
        self.spatial_scale = float(spatial_scale)
        self.sampling_ratio = int(sampling_ratio)
        self.gamma = float(gamma)

    def forward(self, input: Tensor, rois: Tensor, offset: Tensor | None = None) -> Tensor:
        """Regions ``(K, 5)``, with the image before xyxy -> ``(K, C, *output_size)``; ``offset`` as
        :func:`deform_roi_pool` takes it."""
        return deform_roi_pool(
            input, rois, offset, self.output_size, self.spatial_scale, self.sampling_ratio, self.gamma
        )


@MODELS.register_module()
class DeformRoIPoolPack(DeformRoIPool):
    """Deformable RoI pooling that predicts its offsets from the pooled features, zero at first.

    Args:
        output_channels: Channels of the input.
        deform_fc_channels: Width of the predictor.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        output_channels: int,
        deform_fc_channels: int = 1024,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
    ) -> None:
        super().__init__(output_size, spatial_scale, sampling_ratio, gamma)
        self.output_channels = output_channels
        self.deform_fc_channels = deform_fc_channels
        bins = self.output_size[0] * self.output_size[1]
        self.offset_fc = nn.Sequential(
            nn.Linear(bins * output_channels, deform_fc_channels),
            nn.ReLU(inplace=True),
            nn.Linear(deform_fc_channels, deform_fc_channels),
            nn.ReLU(inplace=True),
            nn.Linear(deform_fc_channels, bins * 2),
        )
        zero_(self.offset_fc[-1])

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:  # type: ignore[override]
        """Regions ``(K, 5)``, with the image before xyxy -> ``(K, C, *output_size)``."""
        return self._deformed(input, rois, super().forward(input, rois))

    def _deformed(self, input: Tensor, rois: Tensor, pooled: Tensor) -> Tensor:
        if pooled.size(1) != self.output_channels:
            raise UserValueError(f'The map has {pooled.size(1)} channels, output_channels={self.output_channels}.')
        offset = self.offset_fc(pooled.flatten(1)).unflatten(1, (2, *self.output_size))
        return DeformRoIPool.forward(self, input, rois, offset)


@MODELS.register_module()
class ModulatedDeformRoIPoolPack(DeformRoIPoolPack):
    """Deformable RoI pooling with a predicted factor for every bin, one half at first."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        output_channels: int,
        deform_fc_channels: int = 1024,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
    ) -> None:
        super().__init__(output_size, output_channels, deform_fc_channels, spatial_scale, sampling_ratio, gamma)
        bins = self.output_size[0] * self.output_size[1]
        self.mask_fc = nn.Sequential(
            nn.Linear(bins * output_channels, deform_fc_channels),
            nn.ReLU(inplace=True),
            nn.Linear(deform_fc_channels, bins),
            nn.Sigmoid(),
        )
        zero_(self.mask_fc[2])

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:  # type: ignore[override]
        """Regions ``(K, 5)``, with the image before xyxy -> ``(K, C, *output_size)``."""
        pooled = DeformRoIPool.forward(self, input, rois)
        mask = self.mask_fc(pooled.flatten(1)).unflatten(1, (1, *self.output_size))
        return self._deformed(input, rois, pooled) * mask
