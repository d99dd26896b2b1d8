"""Masks by convolutions whose weights are predicted for each object, and the positives that are trained with them.

Letters: B images, N candidates, S slots for positives, C channels, h and w of a map of masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmdet.errors import UserValueError
from mmdet.ops.fixed_size import is_fixed_size

from .gt import pad_batch
from .ordering import stable_topk
from .precision import in_float32

# Values of activations that are kept for the backward pass; 1 GiB in single precision. What is more is computed again.
ACTIVATION_BUDGET = 256 * 1024**2


# ------------------------------------------------------------------------------------------------------- slots


def pick_slots(members: Tensor, limit: int | None = None, at_random: bool = False) -> tuple[Tensor, Tensor]:
    """Put the members of each row ``(B, N)`` bool into slots.

    On the CPU there are as many slots as the fullest row needs. Elsewhere their number follows from ``limit`` alone,
    and the host waits for nothing.

    Args:
        limit: Most slots of a row.
        at_random: Whether members are drawn where there are more; else the first are taken.

    Returns:
        Indices and whether the slot is used, each ``(B, S)`` with S at least 1.
    """
    slots = members.shape[1] if limit is None else min(limit, members.shape[1])
    if members.device.type == 'cpu' and type(members) is Tensor:  # looking costs nothing here
        most = int(members.sum(1).max())
        at_random = at_random and most > slots
        slots = min(slots, max(1, most))
    if at_random:
        keys = torch.where(members, torch.rand(members.shape, device=members.device), -1.0)
        top, index = keys.topk(slots, 1)
        return index, top >= 0
    top, index = stable_topk(members.int(), slots)
    return index, top > 0


def rows_at(values: Tensor, index: Tensor) -> Tensor:
    """Rows ``(B, S, ...)`` of values ``(B, N, ...)`` at indices ``(B, S)``."""
    shape = *index.shape, *[1] * (values.dim() - 2)
    return values.gather(1, index.view(shape).expand(*index.shape, *values.shape[2:]))


@dataclass
class Slots:
    """Positives of a batch; iterates as a list by image of the used ones alone, which research code expects.

    Attributes:
        values: ``(B, S, ...)``, or several by name. Lists then hold tensors, or ``InstanceData``.
        used: ``(B, S)`` bool.
    """

    values: Any
    used: Tensor

    @classmethod
    def of(cls, found: Slots | Sequence, names: Sequence[str] = ()) -> Slots:
        """A batch of what may be a list by image; of instances the fields ``names``, as far as there are any."""
        if isinstance(found, Slots):
            return found
        if is_fixed_size():
            return cls({name: found[0][name] for name in names if name in found[0]}, found[0].scores > 0)
        used = pad_batch([torch.ones(len(x), dtype=torch.bool, device=_device(x, names)) for x in found])
        if not names:
            return cls(pad_batch(list(found)) + sum(x.sum() for x in found) * 0, used)  # empty ones have gradients too
        names = [name for name in names if all(name in instances for instances in found)]
        return cls({name: pad_batch([instances[name] for instances in found]) for name in names}, used)

    def __getattr__(self, name: str) -> Tensor:
        values = self.__dict__.get('values')
        if isinstance(values, dict) and name in values:
            return values[name]
        raise AttributeError(name)

    def with_values(self, values: Any) -> Slots:
        """Others in the same slots."""
        return Slots(values, self.used)

    @cached_property
    def images(self) -> list:
        """The list by image."""
        if isinstance(self.values, Tensor):
            return [value[used] for value, used in zip(self.values, self.used)]
        return [
            InstanceData(**{name: value[b][used] for name, value in self.values.items()})
            for b, used in enumerate(self.used)
        ]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.used)

    def __getitem__(self, index: int | slice) -> Any:
        return self.images[index]


def _device(found: Any, names: Sequence[str]) -> torch.device:
    return found.device if isinstance(found, Tensor) else found[names[0]].device


def in_parts(function: Callable[..., Tensor], size: int, *slots: Tensor, budget: int | None = None) -> Tensor:
    """``function`` of tensors ``(B, S, ...)``, which gives ``(B, S, ...)``, in parts of the S axis.

    If it is more than one part, the activations of each are computed again in the backward pass.

    Args:
        size: Values that the backward pass needs of one slot of all images.
        budget: Of such values at once.
    """
    if is_fixed_size():
        return function(*slots)
    step = max(1, (ACTIVATION_BUDGET if budget is None else budget) // max(1, size))
    if slots[0].shape[1] <= step:
        return function(*slots)
    parts = zip(*(value.split(step, 1) for value in slots))
    again = partial(checkpoint, function, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([again(*part) for part in parts], 1)


# ----------------------------------------------------------------------------------------- dynamic convolutions


def parameter_counts(in_channels: int, channels: int, num_layers: int) -> tuple[list[int], list[int]]:
    """Weights and biases of each 1x1 convolution, of which the last has one output."""
    widths = [in_channels, *[channels] * (num_layers - 1), 1]
    return [a * b for a, b in pairwise(widths)], widths[1:]


def split_parameters(
    params: Tensor, weights: Sequence[int], biases: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Weights ``[(..., out, in)]`` and biases ``[(..., out)]`` of predicted ``(..., sum)``."""
    if params.shape[-1] != sum(weights) + sum(biases):
        raise UserValueError(
            f'{sum(weights) + sum(biases)} parameters are needed for each mask, but {params.shape[-1]} are predicted'
        )
    parts = params.split([*weights, *biases], -1)
    count = len(weights)
    return [part.unflatten(-1, (out, -1)) for part, out in zip(parts, biases)], list(parts[count:])


@in_float32
def dynamic_logits(
    features: Tensor,
    params: Tensor,
    points: Tensor,
    reach: Tensor,
    locations: Sequence[Tensor],
    counts: tuple[Sequence[int], Sequence[int]],
) -> Tensor:
    """Logits ``(B, S, h, w)``: for each slot a small network of convolutions (CondInst, arXiv:2003.05664, Sec. 3.2).

    Its inputs are the way from each cell to the object's point, in units of ``reach``, then the features.

    Args:
        features: ``(B, C, h, w)``.
        params: ``(B, S, n)``, ``counts`` of weights and biases by layer.
        points, reach: ``(B, S, 2)`` xy and ``(B, S)``, in pixels.
        locations: x ``(w,)`` and y ``(h,)`` of the cells, in pixels.
    """
    batch = params.shape[0]
    weights, biases = split_parameters(params, *counts)
    # The way is linear in x and y: the first layer of all slots of a picture is one product with maps that they share.
    x, y = locations
    shape = (batch, 1, *features.shape[2:])
    maps = torch.cat([x.expand(shape), y[:, None].expand(shape), features], 1).flatten(2)
    way = weights[0][..., :2] / reach[..., None, None]  # (B, S, out, 2)
    bias = biases[0] + (way * points[:, :, None]).sum(-1)
    first = torch.cat([-way, weights[0][..., 2:]], -1)

    def network(first: Tensor, bias: Tensor, *later: Tensor) -> Tensor:
        part = first.shape[1]
        found = torch.baddbmm(bias.reshape(batch, -1, 1), first.flatten(1, 2), maps)
        found = found.view(batch * part, -1, maps.shape[2])
        half = len(later) // 2
        for weight, shift in zip(later[:half], later[half:]):
            found = torch.baddbmm(shift.flatten(0, 1)[..., None], weight.flatten(0, 1), found.relu_())
        return found.view(batch, part, *features.shape[2:])

    size = batch * maps.shape[2] * sum(bias.shape[2] for bias in biases)
    return in_parts(network, size, first, bias, *weights[1:], *biases[1:])


def aligned_bilinear(tensor: Tensor, factor: int) -> Tensor:
    """Enlarge (B, C, H, W) so that cell i of the source lies on cell ``factor * i + factor // 2`` of the result.

    This is how CondInst (arXiv:2003.05664) upsamples its masks.
    """
    if tensor.dim() != 4 or factor < 1 or int(factor) != factor:
        raise UserValueError(
            f'aligned_bilinear takes (B, C, H, W) and a whole factor, not {tensor.dim()}-d and {factor}'
        )
    if factor == 1:
        return tensor
    height, width = (factor * size for size in tensor.shape[2:])
    tensor = F.pad(tensor, (0, 1, 0, 1), mode='replicate')
    tensor = F.interpolate(tensor, (height + 1, width + 1), mode='bilinear', align_corners=True)
    margin = factor // 2
    return F.pad(tensor, (margin, 0, margin, 0), mode='replicate')[:, :, :height, :width]


def unfold_wo_center(x: Tensor, kernel_size: int, dilation: int) -> Tensor:
    """The neighbours of every cell, without the cell itself: (B, C, H, W) -> (B, C, kernel_size ** 2 - 1, H, W)."""
    if x.dim() != 4 or kernel_size % 2 != 1:
        raise UserValueError(
            f'unfold_wo_center takes (B, C, H, W) and an odd kernel, not {x.dim()}-d and {kernel_size}'
        )
    padding = dilation * (kernel_size - 1) // 2
    patches = F.unfold(x, kernel_size, dilation=dilation, padding=padding)
    patches = patches.reshape(*x.shape[:2], kernel_size**2, *x.shape[2:])
    center = kernel_size**2 // 2
    return torch.cat([patches[:, :, :center], patches[:, :, center + 1 :]], 2)


def with_coordinates(maps: Tensor) -> Tensor:
    """Maps ``(B, C, H, W)`` with x and y of every cell, from -1 to 1, as two further channels."""
    height, width = maps.shape[-2:]
    x = torch.linspace(-1, 1, width, dtype=maps.dtype, device=maps.device)
    y = torch.linspace(-1, 1, height, dtype=maps.dtype, device=maps.device)[:, None]
    return torch.cat([maps, x.expand(maps.shape[0], 1, height, -1), y.expand(maps.shape[0], 1, -1, width)], 1)
