"""Points of feature pyramids, x and y in pixels of the network input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from mmdet.errors import UserValueError
from mmdet.registry import TASK_UTILS

from .utils import PriorGrid, valid_grid

DeviceType = torch.device | str | None


@TASK_UTILS.register_module()
class PointGenerator(PriorGrid):
    """Points of a single level, the corner of each cell."""

    def grid_points(self, featmap_size: tuple[int, int], stride: int = 16, device: DeviceType = 'cuda') -> Tensor:
        """``(H * W, 3)``: x, y, stride."""
        height, width = featmap_size
        x, y = self._meshgrid(torch.arange(width, device=device) * stride, torch.arange(height, device=device) * stride)
        return torch.stack([x, y, torch.full_like(x, stride)], -1)

    def valid_flags(self, featmap_size: tuple, valid_size: tuple, device: DeviceType = 'cuda') -> Tensor:
        """``(H * W,)`` bool: whether the position lies within ``valid_size``, in positions of the map."""
        return valid_grid(featmap_size, valid_size, 1, device)


@TASK_UTILS.register_module()
class MlvlPointGenerator(PriorGrid):
    """One point in every cell of every level.

    Args:
        offset: Place of the point in its cell, 0.5 for the centre.
    """

    def __init__(self, strides: Sequence[int] | Sequence[tuple[int, int]], offset: float = 0.5) -> None:
        self.strides = [_pair(stride) for stride in strides]
        self.offset = offset

    @property
    def num_levels(self) -> int:
        """Levels of the pyramid."""
        return len(self.strides)

    @property
    def num_base_priors(self) -> list[int]:
        """One point for each position of every level."""
        return [1] * len(self.strides)

    def grid_priors(
        self,
        featmap_sizes: Sequence[tuple],
        dtype: torch.dtype = torch.float32,
        device: DeviceType = 'cuda',
        with_stride: bool = False,
    ) -> list[Tensor]:
        """``(H * W, 2)`` of each level, or ``(H * W, 4)`` with the strides."""
        if len(featmap_sizes) != self.num_levels:
            raise UserValueError(f'{self.num_levels} strides, but {len(featmap_sizes)} feature maps')
        return [
            self.single_level_grid_priors(size, i, dtype, device, with_stride) for i, size in enumerate(featmap_sizes)
        ]

    def single_level_grid_priors(
        self,
        featmap_size: tuple[int, int],
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: DeviceType = 'cuda',
        with_stride: bool = False,
    ) -> Tensor:
        """Points ``(H * W, 2)`` xy in pixels, in the order row, column; ``(H * W, 4)`` with their strides behind
        them."""
        height, width = featmap_size
        stride_x, stride_y = self.strides[level_idx]
        x = ((torch.arange(width, device=device) + self.offset) * stride_x).to(dtype)
        y = ((torch.arange(height, device=device) + self.offset) * stride_y).to(dtype)
        xx, yy = self._meshgrid(x, y)
        if not with_stride:
            return torch.stack([xx, yy], -1)
        return torch.stack([xx, yy, torch.full_like(xx, stride_x), torch.full_like(yy, stride_y)], -1)

    def sparse_priors(
        self,
        prior_idxs: Tensor,
        featmap_size: tuple[int, int],
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: DeviceType = 'cuda',
    ) -> Tensor:
        """The points at flat positions ``prior_idxs (n,)`` of one level."""
        width = featmap_size[1]
        x = (prior_idxs % width + self.offset) * self.strides[level_idx][0]
        y = (prior_idxs // width + self.offset) * self.strides[level_idx][1]
        return torch.stack([x, y], -1).to(dtype).to(device)

    def valid_flags(
        self, featmap_sizes: Sequence[tuple], pad_shape: tuple, device: DeviceType = 'cuda'
    ) -> list[Tensor]:
        """``(H * W,)`` bool of each level: whether the position lies within ``pad_shape``, in pixels."""
        flags = []
        for size, (stride_x, stride_y) in zip(featmap_sizes, self.strides):
            valid = min(math.ceil(pad_shape[0] / stride_y), size[0]), min(math.ceil(pad_shape[1] / stride_x), size[1])
            flags.append(self.single_level_valid_flags(size, valid, device))
        return flags

    def single_level_valid_flags(self, featmap_size: tuple, valid_size: tuple, device: DeviceType = 'cuda') -> Tensor:
        """``(H * W,)`` bool: whether the position lies within ``valid_size``, in positions of the level."""
        return valid_grid(featmap_size, valid_size, 1, device)
