"""The container that gives boxes of any parametrisation one interface in pipelines and heads."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdet.errors import UserTypeError, UserValueError
from mmdet.structures.bbox.box_type import RegisteredBoxes


class BaseBoxes(RegisteredBoxes, metaclass=ABCMeta):
    """Boxes of shape (..., box_dim) that behave like their tensor and know how to move with an image.

    Methods that end in ``_`` change the boxes in place; image shapes are (h, w).

    Args:
        data: A tensor, an array or nested numbers; an empty sequence gives ``(0, box_dim)``. Tensors keep their dtype
            and so do arrays of floats; all else becomes float32.
        clone: Copy ``data``.
    """

    box_dim: int = 0

    def __init__(
        self,
        data: Tensor | np.ndarray | Sequence,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        clone: bool = True,
    ) -> None:
        given = data
        if isinstance(data, np.ndarray):
            dtype = dtype or (None if data.dtype.kind == 'f' else torch.float32)
            data = torch.from_numpy(np.array(data))
        elif not isinstance(data, Tensor):
            if not isinstance(data, Sequence) or isinstance(data, str):
                raise UserTypeError(f'boxes are made of a tensor, an array or a sequence, not {type(data).__name__}')
            data, dtype = torch.from_numpy(np.array(data)), dtype or torch.float32
        data = data.to(dtype=dtype or data.dtype, device=device or data.device)
        if clone and data is given:
            data = data.clone()
        if data.numel() == 0 and (data.ndim < 2 or data.size(-1) != self.box_dim):
            data = data.reshape(0, self.box_dim)
        if data.ndim < 2 or data.size(-1) != self.box_dim:
            raise UserValueError(
                f'{type(self).__name__} takes at least two dimensions, the last of size {self.box_dim}, '
                f'not {tuple(data.shape)}'
            )
        self.tensor = data

    def _like(self, data: Tensor) -> BaseBoxes:
        return type(self)(data, clone=False)

    def empty_boxes(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> BaseBoxes:
        """(0, box_dim) boxes."""
        return self._like(self.tensor.new_zeros(0, self.box_dim, dtype=dtype, device=device))

    def fake_boxes(
        self,
        sizes: tuple[int, ...],
        fill: float = 0,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
    ) -> BaseBoxes:
        """Boxes of shape ``sizes``, every coordinate ``fill``."""
        return self._like(self.tensor.new_full(sizes, fill, dtype=dtype, device=device))

    def __getitem__(self, index: Any) -> BaseBoxes:
        """Boxes at ``index``; the last dimension cannot be indexed, a single box keeps shape (1, box_dim)."""
        boxes = self.tensor[self._index(index)]
        return self._like(boxes.reshape(1, -1) if boxes.dim() == 1 else boxes)

    def __setitem__(self, index: Any, values: BaseBoxes) -> None:
        """Write boxes of the same type at ``index``, for which the rules of reading hold."""
        if type(values) is not type(self):
            raise UserTypeError(f'{type(values).__name__} cannot be written into {type(self).__name__}')
        self.tensor[self._index(index)] = values.tensor

    def _index(self, index: Any) -> Any:
        """``index`` for the tensor, refused where it reaches the coordinates of a box."""
        if isinstance(index, np.ndarray):
            index = torch.as_tensor(index, device=self.device)
        items = index if isinstance(index, tuple) else (index,)
        used = 0
        for place, item in enumerate(items):
            if item is Ellipsis and place < len(items) - 1:
                used = self.tensor.dim()
            elif item is not None and item is not Ellipsis:
                is_mask = isinstance(item, (Tensor, np.ndarray)) and item.dtype in (torch.bool, np.bool_)
                used += item.ndim if is_mask else 1
        if used >= self.tensor.dim():
            raise UserValueError(f'the index would reach the coordinates of boxes of shape {tuple(self.shape)}')
        return index

    def __len__(self) -> int:
        return len(self.tensor)

    def __deepcopy__(self, memo: dict) -> BaseBoxes:
        memo[id(self)] = copied = self._like(self.tensor.clone())
        return copied

    def __repr__(self) -> str:
        return f'{type(self).__name__}(\n{self.tensor})'

    def new_tensor(self, *args: Any, **kwargs: Any) -> Tensor:
        """A plain tensor, as of the tensor."""
        return self.tensor.new_tensor(*args, **kwargs)

    def new_full(self, *args: Any, **kwargs: Any) -> Tensor:
        """A plain tensor, as of the tensor."""
        return self.tensor.new_full(*args, **kwargs)

    def new_empty(self, *args: Any, **kwargs: Any) -> Tensor:
        """A plain tensor, as of the tensor."""
        return self.tensor.new_empty(*args, **kwargs)

    def new_ones(self, *args: Any, **kwargs: Any) -> Tensor:
        """A plain tensor, as of the tensor."""
        return self.tensor.new_ones(*args, **kwargs)

    def new_zeros(self, *args: Any, **kwargs: Any) -> Tensor:
        """A plain tensor, as of the tensor."""
        return self.tensor.new_zeros(*args, **kwargs)

    def size(self, dim: int | None = None) -> int | torch.Size:
        """Of the tensor."""
        return self.tensor.size() if dim is None else self.tensor.size(dim)

    def dim(self) -> int:
        """Of the tensor."""
        return self.tensor.dim()

    @property
    def device(self) -> torch.device:
        """Of the tensor."""
        return self.tensor.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensor."""
        return self.tensor.dtype

    @property
    def shape(self) -> torch.Size:
        """Of the tensor."""
        return self.tensor.shape

    def numel(self) -> int:
        """Of the tensor."""
        return self.tensor.numel()

    def numpy(self) -> np.ndarray:
        """Of the tensor."""
        return self.tensor.numpy()

    def to(self, *args: Any, **kwargs: Any) -> BaseBoxes:
        """As of the tensor."""
        return self._like(self.tensor.to(*args, **kwargs))

    def cpu(self) -> BaseBoxes:
        """As of the tensor."""
        return self._like(self.tensor.cpu())

    def cuda(self, *args: Any, **kwargs: Any) -> BaseBoxes:
        """As of the tensor."""
        return self._like(self.tensor.cuda(*args, **kwargs))

    def clone(self) -> BaseBoxes:
        """As of the tensor."""
        return self._like(self.tensor.clone())

    def detach(self) -> BaseBoxes:
        """As of the tensor."""
        return self._like(self.tensor.detach())

    def view(self, *shape: int) -> BaseBoxes:
        """As of the tensor."""
        return self._like(self.tensor.view(*shape))

    def reshape(self, *shape: int) -> BaseBoxes:
        """As of the tensor."""
        return self._like(self.tensor.reshape(*shape))

    def expand(self, *sizes: int) -> BaseBoxes:
        """As of the tensor."""
        return self._like(self.tensor.expand(*sizes))

    def repeat(self, *sizes: int) -> BaseBoxes:
        """As of the tensor."""
        return self._like(self.tensor.repeat(*sizes))

    def _not_last(self, *dims: int) -> None:
        last = self.tensor.dim() - 1
        if any(dim % (last + 1) == last for dim in dims):
            raise UserValueError(f'dimension {last} holds the coordinates of a box and stays where it is')

    def transpose(self, dim0: int, dim1: int) -> BaseBoxes:
        """As of the tensor, whose last dimension stays."""
        self._not_last(dim0, dim1)
        return self._like(self.tensor.transpose(dim0, dim1))

    def permute(self, *dims: int) -> BaseBoxes:
        """As of the tensor, whose last dimension stays."""
        self._not_last(*dims[:-1])
        return self._like(self.tensor.permute(*dims))

    def split(self, split_size_or_sections: int | Sequence[int], dim: int = 0) -> list[BaseBoxes]:
        """As of the tensor, whose last dimension stays."""
        self._not_last(dim)
        return [self._like(part) for part in self.tensor.split(split_size_or_sections, dim=dim)]

    def chunk(self, chunks: int, dim: int = 0) -> list[BaseBoxes]:
        """As of the tensor, whose last dimension stays."""
        self._not_last(dim)
        return [self._like(part) for part in self.tensor.chunk(chunks, dim=dim)]

    def unbind(self, dim: int = 0) -> list[BaseBoxes]:
        """As of the tensor, whose last dimension stays."""
        self._not_last(dim)
        return [self._like(part) for part in self.tensor.unbind(dim=dim)]

    def flatten(self, start_dim: int = 0, end_dim: int = -2) -> BaseBoxes:
        """As of the tensor, whose last dimension stays."""
        self._not_last(start_dim, end_dim)
        return self._like(self.tensor.flatten(start_dim, end_dim))

    def squeeze(self, dim: int | None = None) -> BaseBoxes:
        """As of the tensor, whose last dimension stays."""
        if dim is None:
            dims = [i for i, size in enumerate(self.tensor.shape[:-1]) if size == 1]
            return self._like(self.tensor.squeeze(tuple(dims)))
        self._not_last(dim)
        return self._like(self.tensor.squeeze(dim))

    def unsqueeze(self, dim: int) -> BaseBoxes:
        """As of the tensor; no dimension comes after the coordinates.

        Raises:
            ValueError: for the last dimension.
        """
        if dim % (self.tensor.dim() + 1) == self.tensor.dim():
            raise UserValueError('the last dimension holds the coordinates of a box; none can be added after it')
        return self._like(self.tensor.unsqueeze(dim))

    @classmethod
    def _check_kinds(cls, box_list: Sequence) -> None:
        for boxes in box_list:
            if not isinstance(boxes, cls):
                raise UserTypeError(f'only {cls.__name__} can be joined, not {type(boxes).__name__}')

    @classmethod
    def cat(cls, box_list: Sequence[BaseBoxes], dim: int = 0) -> BaseBoxes:
        """One set of boxes of several of the same kind, along a dimension that is not the last.

        Raises:
            ValueError: without boxes, or along the last dimension.
        """
        if not box_list:
            raise UserValueError('there are no boxes to concatenate')
        cls._check_kinds(box_list)
        box_list[0]._not_last(dim)
        return cls(torch.cat([boxes.tensor for boxes in box_list], dim=dim), clone=False)

    @classmethod
    def stack(cls, box_list: Sequence[BaseBoxes], dim: int = 0) -> BaseBoxes:
        """Several sets of boxes of the same kind along a new dimension, which is not the last.

        Raises:
            ValueError: without boxes, or along the last dimension.
        """
        if not box_list:
            raise UserValueError('there are no boxes to stack')
        cls._check_kinds(box_list)
        if dim % (box_list[0].dim() + 1) == box_list[0].dim():
            raise UserValueError('the last dimension holds the coordinates of a box; boxes cannot be stacked along it')
        return cls(torch.stack([boxes.tensor for boxes in box_list], dim=dim), clone=False)

    @property
    @abstractmethod
    def centers(self) -> Tensor:
        """(..., 2)."""

    @property
    @abstractmethod
    def areas(self) -> Tensor:
        """(...)."""

    @property
    @abstractmethod
    def widths(self) -> Tensor:
        """(...)."""

    @property
    @abstractmethod
    def heights(self) -> Tensor:
        """(...)."""

    @abstractmethod
    def flip_(self, img_shape: tuple[int, int], direction: str = 'horizontal') -> None:
        """Mirror with the image; direction is horizontal, vertical or diagonal."""

    @abstractmethod
    def translate_(self, distances: tuple[float, float]) -> None:
        """Move by (x, y)."""

    @abstractmethod
    def clip_(self, img_shape: tuple[int, int]) -> None:
        """Cut off what lies outside the image."""

    @abstractmethod
    def rotate_(self, center: tuple[float, float], angle: float) -> None:
        """Turn around ``center`` (x, y) by ``angle`` degrees, clockwise."""

    @abstractmethod
    def project_(self, homography_matrix: Tensor | np.ndarray) -> None:
        """Transform by a 3 x 3 homography."""

    @abstractmethod
    def rescale_(self, scale_factor: tuple[float, float]) -> None:
        """Multiply all coordinates by (w, h), as the image is resized."""

    @abstractmethod
    def resize_(self, scale_factor: tuple[float, float]) -> None:
        """Multiply widths and heights by (w, h); the centres stay."""

    @abstractmethod
    def is_inside(self, img_shape: tuple[int, int], all_inside: bool = False, allowed_border: int = 0) -> Tensor:
        """(...) bool: some part, or every part, lies in the image widened by ``allowed_border`` pixels."""

    @abstractmethod
    def find_inside_points(self, points: Tensor, is_aligned: bool = False) -> Tensor:
        """Which of the (M, 2) points lie in which of the N boxes: (M, N), or (M,) when aligned."""

    @staticmethod
    @abstractmethod
    def overlaps(
        boxes1: BaseBoxes, boxes2: BaseBoxes, mode: str = 'iou', is_aligned: bool = False, eps: float = 1e-6
    ) -> Tensor:
        """Overlaps of all pairs, or of aligned boxes."""

    @staticmethod
    @abstractmethod
    def from_instance_masks(masks: Any) -> BaseBoxes:
        """The box around each of ``BitmapMasks`` or ``PolygonMasks``."""
