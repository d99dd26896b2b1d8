"""Anchors of feature pyramids. Boxes are xyxy in pixels of the network input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from mmdet.errors import UserValueError
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes

from .utils import PriorGrid, valid_grid

DeviceType = torch.device | str | None


@TASK_UTILS.register_module()
class AnchorGenerator(PriorGrid):
    """Anchors of several scales and aspect ratios around every cell of every level.

    Args:
        strides: Stride of each level, one number or (x, y).
        ratios: Height over width.
        scales: Sizes in units of the base size; or, instead, ``octave_base_scale * 2 ** (i / scales_per_octave)`` for
            ``i < scales_per_octave`` (RetinaNet, Sec. 4).
        base_sizes: Side of the base anchor of each level in pixels, the smaller stride by default.
        scale_major: Whether anchors of one location run over scales for each ratio; else over ratios for each scale.
        centers: Centre of the base anchor of each level; ``center_offset`` times the stride by default.
        use_box_type: Whether :meth:`grid_priors` returns ``HorizontalBoxes``.
    """

    def __init__(
        self,
        strides: Sequence[int] | Sequence[tuple[int, int]],
        ratios: Sequence[float],
        scales: Sequence[float] | None = None,
        base_sizes: Sequence[float] | None = None,
        scale_major: bool = True,
        octave_base_scale: int | None = None,
        scales_per_octave: int | None = None,
        centers: Sequence[tuple[float, float]] | None = None,
        center_offset: float = 0.0,
        use_box_type: bool = False,
    ) -> None:
        if center_offset != 0 and centers is not None:
            raise UserValueError(f'centers and center_offset={center_offset} exclude each other')
        if not 0 <= center_offset <= 1:
            raise UserValueError(f'center_offset must be in [0, 1], not {center_offset}')
        if centers is not None and len(centers) != len(strides):
            raise UserValueError(f'{len(strides)} strides, but {len(centers)} centers')
        self.strides = [_pair(stride) for stride in strides]
        self.base_sizes = [min(stride) for stride in self.strides] if base_sizes is None else list(base_sizes)
        if len(self.base_sizes) != len(self.strides):
            raise UserValueError(f'{len(self.strides)} strides, but {len(self.base_sizes)} base_sizes')
        octave = octave_base_scale is not None and scales_per_octave is not None
        if octave == (scales is not None):
            raise UserValueError('give either scales or both octave_base_scale and scales_per_octave')
        if octave:
            scales = [octave_base_scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave)]
        self.octave_base_scale, self.scales_per_octave = octave_base_scale, scales_per_octave
        self.scales, self.ratios = torch.tensor(scales, dtype=torch.float32), torch.tensor(ratios, dtype=torch.float32)
        self.scale_major, self.centers, self.center_offset = scale_major, centers, center_offset
        self.use_box_type = use_box_type
        self.base_anchors = self.gen_base_anchors()

    @property
    def num_base_anchors(self) -> list[int]:
        """The old name of ``num_base_priors``."""
        return self.num_base_priors

    @property
    def num_base_priors(self) -> list[int]:
        """Anchors at one location of each level."""
        return [len(anchors) for anchors in self.base_anchors]

    @property
    def num_levels(self) -> int:
        """Levels of the pyramid."""
        return len(self.strides)

    def gen_base_anchors(self) -> list[Tensor]:
        """Anchors of the cell at (0, 0) of each level, ``(A, 4)``."""
        return [
            self.gen_single_level_base_anchors(size, self.scales, self.ratios, self.centers and self.centers[i])
            for i, size in enumerate(self.base_sizes)
        ]

    def gen_single_level_base_anchors(
        self, base_size: float, scales: Tensor, ratios: Tensor, center: tuple[float, float] | None = None
    ) -> Tensor:
        """Anchors ``(A, 4)`` xyxy of one position, around ``center`` or the offset that all levels share."""
        x, y = (self.center_offset * base_size,) * 2 if center is None else center
        width, height = self._sides(base_size, scales, ratios)
        half_w, half_h = 0.5 * width, 0.5 * height
        return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], -1)

    def _sides(self, base_size: float, scales: Tensor, ratios: Tensor) -> tuple[Tensor, Tensor]:
        """Width and height of the base anchors, ``(A,)``, of area ``(base_size * scale) ** 2``."""
        root = ratios.sqrt()
        if self.scale_major:
            width, height = base_size * (1 / root)[:, None] * scales, base_size * root[:, None] * scales
        else:
            width, height = base_size * scales[:, None] * (1 / root), base_size * scales[:, None] * root
        return width.flatten(), height.flatten()

    def grid_priors(
        self, featmap_sizes: Sequence[tuple], dtype: torch.dtype = torch.float32, device: DeviceType = 'cuda'
    ) -> list[Tensor]:
        """Anchors of each level, ``(H * W * A, 4)`` in the order y, x, anchor."""
        if len(featmap_sizes) != self.num_levels:
            raise UserValueError(f'{self.num_levels} strides, but {len(featmap_sizes)} feature maps')
        return [self.single_level_grid_priors(size, i, dtype, device) for i, size in enumerate(featmap_sizes)]

    def single_level_grid_priors(
        self,
        featmap_size: tuple[int, int],
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: DeviceType = 'cuda',
    ) -> Tensor:
        """Anchors ``(H * W * A, 4)`` of a level in pixels of the image, in the order row, column, anchor."""
        base = self.base_anchors[level_idx].to(device=device, dtype=dtype, non_blocking=True)  # no wait for the GPU
        height, width = featmap_size
        stride_x, stride_y = self.strides[level_idx]
        # Integers are stepped in their own kind: half precision cannot count pixels.
        x = (torch.arange(width, device=device) * stride_x).to(dtype)
        y = (torch.arange(height, device=device) * stride_y).to(dtype)
        xx, yy = self._meshgrid(x, y)
        anchors = (torch.stack([xx, yy, xx, yy], -1)[:, None] + base).view(-1, 4)
        return HorizontalBoxes(anchors) if self.use_box_type else anchors

    def single_level_grid_anchors(
        self,
        base_anchors: Tensor,
        featmap_size: tuple[int, int],
        stride: tuple[int, int] = (16, 16),
        device: DeviceType = 'cuda',
    ) -> Tensor:
        """``base_anchors (A, 4)`` at every position of a level, ``(H * W * A, 4)``; an old form of
        :meth:`single_level_grid_priors`."""
        height, width = featmap_size
        x, y = torch.arange(width, device=device) * stride[0], torch.arange(height, device=device) * stride[1]
        xx, yy = self._meshgrid(x, y)
        return (torch.stack([xx, yy, xx, yy], -1).type_as(base_anchors)[:, None] + base_anchors.to(device)).view(-1, 4)

    def sparse_priors(
        self,
        prior_idxs: Tensor,
        featmap_size: tuple[int, int],
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: DeviceType = 'cuda',
    ) -> Tensor:
        """The anchors at flat positions ``prior_idxs (n,)`` of one level."""
        num_base, width = self.num_base_anchors[level_idx], featmap_size[1]
        cell = prior_idxs // num_base
        x = cell % width * self.strides[level_idx][0]
        y = cell // width * self.strides[level_idx][1]
        base = self.base_anchors[level_idx].to(device, non_blocking=True)[prior_idxs % num_base]
        return (torch.stack([x, y, x, y], -1).to(dtype) + base.to(dtype)).to(device)

    def grid_anchors(self, featmap_sizes: Sequence[tuple], device: DeviceType = 'cuda') -> list[Tensor]:
        """The old name of ``grid_priors``."""
        return self.grid_priors(featmap_sizes, device=device)

    def valid_flags(
        self, featmap_sizes: Sequence[tuple], pad_shape: tuple, device: DeviceType = 'cuda'
    ) -> list[Tensor]:
        """``(H * W * A,)`` bool of each level: whether the cell lies within (H, W) ``pad_shape``."""
        flags = []
        for size, (stride_x, stride_y), num_base in zip(featmap_sizes, self.strides, self.num_base_priors):
            valid = min(math.ceil(pad_shape[0] / stride_y), size[0]), min(math.ceil(pad_shape[1] / stride_x), size[1])
            flags.append(self.single_level_valid_flags(size, valid, num_base, device))
        return flags

    def single_level_valid_flags(
        self, featmap_size: tuple, valid_size: tuple, num_base_anchors: int, device: DeviceType = 'cuda'
    ) -> Tensor:
        """``(H * W * A,)`` bool: whether the position lies within ``valid_size``, in positions of the level."""
        return valid_grid(featmap_size, valid_size, num_base_anchors, device)

    def __repr__(self) -> str:
        names = 'strides ratios scales base_sizes scale_major octave_base_scale scales_per_octave centers center_offset'
        return f'{type(self).__name__}({", ".join(f"{n}={getattr(self, n)}" for n in names.split())})'


@TASK_UTILS.register_module()
class SSDAnchorGenerator(AnchorGenerator):
    """The anchor layout of SSD (Sec. 2.2): two square anchors a level and one pair for each aspect ratio.

    Args:
        ratios: Aspect ratios beside 1 of each level.
        min_sizes, max_sizes: Sides in pixels of the small square of each level and of the next level; by default spread
            over ``basesize_ratio_range``, fractions of ``input_size``.
        input_size: 300 and 512 have the caffe original's first level.
    """

    def __init__(
        self,
        strides: Sequence[int] | Sequence[tuple[int, int]],
        ratios: Sequence[Sequence[float]],
        min_sizes: Sequence[float] | None = None,
        max_sizes: Sequence[float] | None = None,
        basesize_ratio_range: tuple[float, float] = (0.15, 0.9),
        input_size: int = 300,
        scale_major: bool = True,
        use_box_type: bool = False,
    ) -> None:
        if len(strides) != len(ratios):
            raise UserValueError(f'{len(strides)} strides, but {len(ratios)} lists of ratios')
        if (min_sizes is None) != (max_sizes is None):
            raise UserValueError('give both min_sizes and max_sizes, or neither')
        self.strides = [_pair(stride) for stride in strides]
        self.input_size, self.basesize_ratio_range = input_size, basesize_ratio_range
        self.centers = [(sx / 2.0, sy / 2.0) for sx, sy in self.strides]
        if min_sizes is None:
            min_sizes, max_sizes = self._spread_sizes()
        if not len(min_sizes) == len(max_sizes) == len(strides):
            raise UserValueError(
                f'{len(strides)} strides, but {len(min_sizes)} min_sizes and {len(max_sizes)} max_sizes'
            )
        self.min_sizes, self.max_sizes, self.base_sizes = min_sizes, max_sizes, min_sizes
        self.ratios, self.scales = [], []
        for level_ratios, low, high in zip(ratios, min_sizes, max_sizes):
            self.ratios.append(torch.tensor([1.0, *(v for r in level_ratios for v in (1 / r, r))]))
            self.scales.append(torch.tensor([1.0, math.sqrt(high / low)]))
        self.octave_base_scale = self.scales_per_octave = None
        self.scale_major, self.center_offset, self.use_box_type = scale_major, 0, use_box_type
        self.base_anchors = self.gen_base_anchors()

    def _spread_sizes(self) -> tuple[list[int], list[int]]:
        low, high = (int(ratio * 100) for ratio in self.basesize_ratio_range)
        step = int((high - low) // (len(self.strides) - 2))
        percents = range(low, high + 1, step)
        min_sizes = [int(self.input_size * p / 100) for p in percents]
        max_sizes = [int(self.input_size * (p + step) / 100) for p in percents]
        first = self._first_level(self.basesize_ratio_range[0])
        return [int(self.input_size * first[0] / 100), *min_sizes], [int(self.input_size * first[1] / 100), *max_sizes]

    def _first_level(self, lowest: float) -> tuple[float, float]:
        """Percentages of the first level, which the caffe configurations for COCO and VOC set by hand."""
        table = {(300, 0.15): (7, 15), (300, 0.2): (10, 20), (512, 0.1): (4, 10), (512, 0.15): (7, 15)}
        if self.input_size not in (300, 512):
            raise UserValueError(f'input_size must be 300 or 512 unless min_sizes are given, not {self.input_size}')
        if (self.input_size, lowest) not in table:
            known = sorted(low for size, low in table if size == self.input_size)
            raise UserValueError(f'basesize_ratio_range[0] must be one of {known} at {self.input_size}, not {lowest}')
        return table[self.input_size, lowest]

    def gen_base_anchors(self) -> list[Tensor]:
        anchors = []
        for i, size in enumerate(self.base_sizes):
            boxes = self.gen_single_level_base_anchors(size, self.scales[i], self.ratios[i], self.centers[i])
            # Of the larger scale only the square is used; it stands second. The order holds for scale_major=False, as
            # in every published configuration; weights trained with True rely on the same positions.
            count = len(self.ratios[i])
            anchors.append(boxes[torch.tensor([0, count, *range(1, count)])])
        return anchors


@TASK_UTILS.register_module()
class LegacyAnchorGenerator(AnchorGenerator):
    """Anchors of MMDetection 1.x: rounded, with the pixel centres one unit wide and the last pixel inclusive."""

    def gen_single_level_base_anchors(
        self, base_size: float, scales: Tensor, ratios: Tensor, center: tuple[float, float] | None = None
    ) -> Tensor:
        x, y = (self.center_offset * (base_size - 1),) * 2 if center is None else center
        width, height = self._sides(base_size, scales, ratios)
        half_w, half_h = 0.5 * (width - 1), 0.5 * (height - 1)
        return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], -1).round()


@TASK_UTILS.register_module()
class LegacySSDAnchorGenerator(SSDAnchorGenerator, LegacyAnchorGenerator):
    """SSD anchors as MMDetection 1.x rounded them."""

    def __init__(self, strides, ratios, basesize_ratio_range, input_size=300, scale_major=True, use_box_type=False):
        super().__init__(
            strides=strides,
            ratios=ratios,
            basesize_ratio_range=basesize_ratio_range,
            input_size=input_size,
            scale_major=scale_major,
            use_box_type=use_box_type,
        )
        self.centers = [((sx - 1) / 2.0, (sy - 1) / 2.0) for sx, sy in self.strides]
        self.base_anchors = self.gen_base_anchors()


@TASK_UTILS.register_module()
class YOLOAnchorGenerator(AnchorGenerator):
    """Anchors given as pairs of width and height in pixels for each level (YOLOv2, Sec. 2)."""

    def __init__(
        self,
        strides: Sequence[int] | Sequence[tuple[int, int]],
        base_sizes: Sequence[Sequence[tuple[int, int]]],
        use_box_type: bool = False,
    ) -> None:
        self.strides = [_pair(stride) for stride in strides]
        self.centers = [(sx / 2.0, sy / 2.0) for sx, sy in self.strides]
        self.base_sizes = [[_pair(size) for size in level] for level in base_sizes]
        self.use_box_type = use_box_type
        self.base_anchors = self.gen_base_anchors()

    @property
    def num_levels(self) -> int:
        """Levels of the pyramid."""
        return len(self.base_sizes)

    def gen_base_anchors(self) -> list[Tensor]:
        return [
            self.gen_single_level_base_anchors([_pair(size) for size in sizes], center)
            for sizes, center in zip(self.base_sizes, self.centers)
        ]

    def gen_single_level_base_anchors(
        self, base_sizes_per_level: Sequence[tuple[int, int]], center: tuple[float, float] | None = None
    ) -> Tensor:
        """Anchors ``(A, 4)`` of the sizes (width, height) of one level, around ``center`` or (0, 0)."""
        x, y = (0.0, 0.0) if center is None else center
        return torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for w, h in base_sizes_per_level])

    def __repr__(self) -> str:
        return f'{type(self).__name__}(strides={self.strides}, base_sizes={self.base_sizes})'
