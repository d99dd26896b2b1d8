from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet.registry import TASK_UTILS

from .base_bbox_coder import BaseBBoxCoder


@TASK_UTILS.register_module()
class LandmarkCoder(BaseBBoxCoder):
    """Offsets of points from an anchor's centre in units of its sides (RetinaFace, arXiv:1905.00641, Sec. 3.1).

    Args:
        num_points: Points of an object.
        target_stds: What the offsets along x and y are divided by.
    """

    def __init__(self, num_points: int = 5, target_stds: Sequence[float] = (0.1, 0.1), **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_points, self.stds = num_points, tuple(target_stds)
        self.encode_size = 2 * num_points

    def encode(self, bboxes: Tensor, landmarks: Tensor) -> Tensor:
        """Offsets ``(..., 2 * N)`` of ``landmarks (..., N, 2)`` from ``bboxes (..., 4)``."""
        center, unit = self._frame(bboxes)
        return ((landmarks - center) / unit).flatten(-2)

    def decode(self, bboxes: Tensor, offsets: Tensor) -> Tensor:
        """Points ``(..., N, 2)`` of ``offsets (..., 2 * N)``."""
        center, unit = self._frame(bboxes)
        return offsets.unflatten(-1, (self.num_points, 2)) * unit + center

    def _frame(self, bboxes: Tensor) -> tuple[Tensor, Tensor]:
        center = (bboxes[..., None, :2] + bboxes[..., None, 2:]) / 2
        sides = bboxes[..., None, 2:] - bboxes[..., None, :2]
        return center, torch.stack([side * std for side, std in zip(sides.unbind(-1), self.stds)], -1)
