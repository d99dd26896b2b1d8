"""The levels of a feature pyramid as one axis of priors.

Letters: B images, P priors of all levels in the order level, y, x, anchor, A anchors per location, D values per prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


def flatten_levels(levels: Sequence[Tensor], dim: int) -> Tensor:
    """Level maps ``[(B, A * dim, H, W), ...]`` as one ``(B, P, dim)``."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, dim) for level in levels], 1)


def as_level(flat: Tensor) -> Tensor:
    """``(B, P, D)`` dressed as one level ``(B, D, P, 1)``: a view, for methods written for a single level."""
    return flat.transpose(1, 2).unsqueeze(-1)


def rows(level: Tensor, dim: int) -> Tensor:
    """A level map ``(B, A * dim, H, W)`` as ``(B * H * W * A, dim)``."""
    return level.permute(0, 2, 3, 1).reshape(-1, dim)


def split_levels(flat: Tensor, sizes: Sequence[int], dim: int = 1) -> list[Tensor]:
    """The inverse of the concatenation over levels."""
    return list(flat.split(list(sizes), dim))


def map_sizes(levels: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Height and width of each level map."""
    return [(level.shape[-2], level.shape[-1]) for level in levels]


@dataclass
class Priors:
    """Anchors or points of all levels.

    Attributes:
        boxes: ``(1, P, 4)`` xyxy in pixels of the network input, or ``(1, P, 2)`` points; first axis B where every
            image has priors of its own.
        valid: ``(B, P)`` bool, False where a prior lies on padding or too far outside the image.
        level_sizes: Priors of each level.
    """

    boxes: Tensor
    valid: Tensor
    level_sizes: list[int]
    strides: Sequence[int | float] | None = None
    _stride: Tensor | None = field(default=None, repr=False)

    @property
    def stride(self) -> Tensor:
        """``(P,)`` stride of each prior's level in pixels."""
        if self._stride is None:
            assert self.strides is not None
            self._stride = per_level(self.strides, self.level_sizes, self.boxes)
        return self._stride

    @classmethod
    def from_lists(cls, prior_list: Sequence, valid_list: Sequence) -> Priors:
        """Lists by image of lists by level, as the joints of dense heads pass them on.

        Lists that :meth:`as_lists` made give their origin back without a copy.
        """
        if isinstance(prior_list, _PriorList) and prior_list.origin.valid is getattr(valid_list, 'valid', None):
            return prior_list.origin
        boxes = [torch.cat(list(levels)) if not isinstance(levels, Tensor) else levels for levels in prior_list]
        valid = [torch.cat(list(levels)) if not isinstance(levels, Tensor) else levels for levels in valid_list]
        first = prior_list[0]
        sizes = [len(first)] if isinstance(first, Tensor) else [len(level) for level in first]
        return cls(torch.stack(boxes), torch.stack(valid).bool(), sizes)

    def as_lists(self) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """``[image][level]`` lists of priors and of valid flags: views, or B references to the shared grid."""
        priors, flags = _PriorList(), _FlagList()
        priors.origin, flags.valid = self, self.valid
        shared = split_levels(self.boxes[0], self.level_sizes, 0)
        for b, valid in enumerate(self.valid):
            priors.append(shared if len(self.boxes) == 1 else split_levels(self.boxes[b], self.level_sizes, 0))
            flags.append(split_levels(valid, self.level_sizes, 0))
        return priors, flags

    def expanded(self) -> Tensor:
        """``(B, P, 4)``, a view."""
        return self.boxes.expand(len(self.valid), -1, -1)


class _PriorList(list):
    origin: Priors


class _FlagList(list):
    valid: Tensor


def per_level(values: Sequence, sizes: Sequence[int], like: Tensor) -> Tensor:
    """One value, or one tuple of values, of each level repeated for its priors, ``(P, ...)``; no copy from the host."""
    parts = []
    for value, size in zip(values, sizes):
        if isinstance(value, (tuple, list)):
            parts.append(torch.stack([like.new_full((size,), float(v)) for v in value], -1))
        else:
            parts.append(like.new_full((size,), float(value)))
    return torch.cat(parts)
