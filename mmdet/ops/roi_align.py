"""Pooling of regions. RoIs have shape (K, 5): image index and x1 y1 x2 y2 in pixels of the input image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .bilinear import bilinear_bags
from .roi_align_levels import has_kernel, roi_align_levels

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
    """RoIAlign (arXiv:1703.06870, Sec. 3). Half precision is summed in full precision, and so are RoIs.

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
    if pool_mode == 'avg' and has_kernel([input]):
        return roi_align_levels([input], rois, None, (height, width), [spatial_scale], sampling_ratio, aligned)
    if input.dtype in HALF:
        with torch.autocast(input.device.type, enabled=False):
            full = roi_align(
                input.float(), rois.float(), output_size, spatial_scale, sampling_ratio, pool_mode, aligned
            )
        return full.to(input.dtype)
    if pool_mode not in ('avg', 'max'):
        raise UserValueError(f"pool_mode={pool_mode!r} of roi_align is neither 'avg' nor 'max'.")
    if pool_mode == 'max' and sampling_ratio <= 0:
        raise UserValueError(f"pool_mode='max' of roi_align needs a positive sampling_ratio, got {sampling_ratio}.")
    from torchvision.ops import roi_align as torchvision_roi_align

    rois = rois.to(input.dtype)
    if pool_mode == 'avg' and _bags_pay(input):
        return _roi_align_in_bags(input, rois.detach(), (height, width), spatial_scale, sampling_ratio, aligned)
    if pool_mode == 'avg':
        return torchvision_roi_align(input, rois, (height, width), spatial_scale, sampling_ratio, aligned)
    ratio = sampling_ratio  # a finer grid with one sample in each bin holds the very samples to choose from
    samples = torchvision_roi_align(input, rois, (height * ratio, width * ratio), spatial_scale, 1, aligned)
    return F.max_pool2d(samples, ratio) if len(rois) else samples[:, :, :height, :width]


# Entries of the bags that are laid out at once: about 50 MB of cell numbers and weights.
_BAG_ENTRIES = 2**22
# With fewer channels than this, laying out the bags costs more than the kernel of torchvision.
_BAG_CHANNELS = 8


def _bags_pay(input: Tensor) -> bool:
    # how the bags are laid out depends on data, which tracing and fake tensors do not have
    real = type(input) in (Tensor, nn.Parameter) and not torch.jit.is_tracing() and not torch.compiler.is_compiling()
    return real and input.device.type == 'cpu' and input.size(1) >= _BAG_CHANNELS


def _roi_align_in_bags(
    input: Tensor, rois: Tensor, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """RoIAlign on the CPU: each bin is a weighted sum of feature rows, which is what an embedding bag computes.

    Several times as fast as the kernel of torchvision, which walks through one channel and one bin after another on a
    single thread. RoIs with equally many samples in their bins share one call.
    """
    batch, channels, height, width = input.shape
    offset = 0.5 if aligned else 0.0
    low, high = (rois[:, 1:].unflatten(1, (2, 2)) * spatial_scale - offset).flip(-1).unbind(1)  # (K, 2): y, x
    size = high - low if aligned else (high - low).clamp(min=1)
    bins = input.new_tensor(output_size)
    if not len(rois) or not batch:
        groups = []
    elif sampling_ratio > 0:
        groups = [(sampling_ratio, sampling_ratio, torch.arange(len(rois)))]
    else:
        counts, group = (size / bins).ceil().nan_to_num(0, 0, 0).clamp(min=0).long().unique(dim=0, return_inverse=True)
        groups = [(*count, (group == i).nonzero()[:, 0]) for i, count in enumerate(counts.tolist()) if min(count) > 0]
    rows = input.permute(0, 2, 3, 1).reshape(-1, channels)
    order, parts = [], []
    for count_y, count_x, members in groups:
        chunk = max(1, _BAG_ENTRIES // (output_size[0] * output_size[1] * 4 * count_y * count_x))
        for part in members.split(chunk):
            y, y_weight = _samples(low[part, 0], size[part, 0], output_size[0], count_y, height)
            x, x_weight = _samples(low[part, 1], size[part, 1], output_size[1], count_x, width)
            first = rois[part, 0].long()[:, None, None] * (height * width)
            cell = (first + y * width)[:, :, None, :, None] + x[:, None, :, None, :]  # (K, rows, columns, 2Y, 2X)
            weight = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
            bags = F.embedding_bag(
                cell.flatten(3).flatten(0, 2), rows, mode='sum', per_sample_weights=weight.flatten(3).flatten(0, 2)
            )
            order.append(part)
            parts.append(bags.view(len(part), *output_size, channels))
    pooled = input.new_zeros(len(rois), *output_size, channels)
    if not parts:
        pooled = pooled + input.sum() * 0  # what reads nothing is in the graph all the same
    elif len(parts) == 1 and len(order[0]) == len(rois):
        pooled = parts[0]
    else:
        pooled = pooled.index_copy(0, torch.cat(order), torch.cat(parts))
    return pooled.permute(0, 3, 1, 2)


def _samples(low: Tensor, size: Tensor, bins: int, count: int, cells: int) -> tuple[Tensor, Tensor]:
    """Along one axis, the cells that each bin reads and their weights, both of shape (K, bins, 2 count)."""
    step = size / bins
    inside = (torch.arange(count, dtype=low.dtype) + 0.5) * step[:, None] / count  # (K, count)
    at = low[:, None, None] + torch.arange(bins, dtype=low.dtype)[:, None] * step[:, None, None] + inside[:, None]
    valid = (at >= -1) & (at <= cells)  # further out there is nothing, nearer the border is repeated
    at = at.where(valid, 0).clamp(0, cells - 1)
    left = at.long()
    part = at - left
    right = (left + 1).clamp(max=cells - 1)
    weight = torch.stack([1 - part, part], -1) * (valid.to(low.dtype) / count)[..., None]
    return torch.stack([left, right], -1).flatten(2), weight.flatten(2)


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
        """Regions ``(K, 5)``, with the image before xyxy -> ``(K, C, *output_size)``."""
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
        """Regions ``(K, 5)``, with the image before xyxy -> ``(K, C, *output_size)``."""
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
        image = rois[:, 0].long().repeat_interleave(rows * columns, output_size=rois.shape[0] * rows * columns)
        sampled = bilinear_bags(features, image, x.reshape(-1, 1), y.reshape(-1, 1))
        return sampled.reshape(rois.shape[0], rows, columns, features.size(1)).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f'output_size={self.output_size}, spatial_scale={self.spatial_scale}'
