"""Masks by convolutions whose weights are predicted for each object, and the positives that are trained with them.

Letters: B images, N candidates, S slots for positives, C channels, h and w of a map of masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise, repeat
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from mmdet.errors import UserValueError
from mmdet.ops.fixed_size import is_at_hand, is_fixed_size, is_symbolic

from .constants import constant
from .gt import pad_batch
from .ordering import stable_topk
from .precision import in_float32

# Values of activations that are kept for the backward pass; 1 GiB in single precision. What is more is computed again.
ACTIVATION_BUDGET = 256 * 1024**2
# Values of activations that a CPU's cache holds, and of a product of matrices, which is fast where it is large.
TILE_BUDGET = 3 * 1024**2
PRODUCT_BUDGET = 16 * 1024**2


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
    if is_at_hand(members):
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


class LazySlots(Slots):
    """Slots whose values are made when they are asked for.

    Args:
        make: Gives values ``(B, S, ...)`` of ``shared (B, ...)`` and ``slots (B, S, ...)``.
    """

    def __init__(self, make: Callable[..., Tensor], shared: Sequence[Tensor], slots: Sequence[Tensor], used: Tensor):
        self.make, self.shared, self.slots, self.used = make, shared, slots, used

    @cached_property
    def values(self) -> Tensor:  # type: ignore[override]
        """All of them."""
        return self.make(*self.shared, *self.slots)


def _device(found: Any, names: Sequence[str]) -> torch.device:
    return found.device if isinstance(found, Tensor) else found[names[0]].device


def in_parts(
    function: Callable[..., Tensor],
    size: int,
    *slots: Tensor,
    shared: Sequence[Tensor] = (),
    counts: Sequence[int] | None = None,
    budget: int | None = None,
) -> Tensor:
    """``function`` of tensors ``(B, ...)`` and ``(B, S, ...)``, which gives ``(B, S, ...)``, in parts of the S axis.

    If it is more than one part, the activations of each are computed again in the backward pass.

    Args:
        size: Values that the backward pass needs of one slot of all images.
        shared: What comes before the slots.
        counts: No more slots of each image count, the first ones. Images without any have zeros in a part.
        budget: Of such values at once.
    """
    if is_fixed_size():
        return function(*shared, *slots)
    batch, total = slots[0].shape[:2]
    step = max(1, (ACTIVATION_BUDGET if budget is None else budget) // max(1, size))
    if total <= step:
        return function(*shared, *slots)
    again = partial(checkpoint, function, use_reentrant=False, preserve_rng_state=False)
    found = []
    for start, *part in zip(range(0, total, step), *(value.split(step, 1) for value in slots)):
        rows = [b for b in range(batch) if not start or counts is None or counts[b] > start]
        if len(rows) == batch:
            found.append(again(*shared, *part))
        elif rows:
            index = constant(rows, like=slots[0]).long()
            values = again(*(value[index] for value in (*shared, *part)))
            found.append(values.new_zeros(batch, *values.shape[1:]).index_copy(0, index, values))
        else:
            shape = batch, part[0].shape[1], *found[0].shape[2:]
            found.append(found[0].new_zeros(shape))
    return torch.cat(found, 1)


def sum_in_parts(
    function: Callable[..., Tensor],
    size: int,
    weights: Tensor,
    *slots: Tensor,
    shared: Sequence[Tensor] = (),
    bounds: Sequence[int] | None = None,
    large: bool = False,
) -> Tensor:
    """The sum of ``weights (B, S)`` times ``function``, as of :func:`in_parts`, whose memory does not grow with S.

    On a CPU it is computed tile by tile, each with its gradient while it is in the cache, and images have no more
    slots than count.

    Args:
        size: Values that the backward pass needs of one slot of one image.
        weights: 0 behind the slots that count; without a gradient.
        shared: Also all else that ``function`` uses and that has a gradient.
        bounds: Of the slots of each image that count, where the host does not look at them.
        large: Whether tiles are to be large, since products of matrices take the most time.
    """
    if is_at_hand(weights):
        step = max(1, (PRODUCT_BUDGET if large else TILE_BUDGET) // max(1, size))
        return _TileSum.apply(function, step, len(shared), weights, *shared, *slots)
    return (in_parts(function, size * len(weights), *slots, shared=shared, counts=bounds) * weights).sum()


class _TileSum(torch.autograd.Function):
    """:func:`sum_in_parts` on a CPU."""

    @staticmethod
    def forward(ctx: Any, function: Callable, step: int, num_shared: int, weights: Tensor, *tensors: Tensor) -> Tensor:
        needed = ctx.needs_input_grad[4:]
        wanted = [i for i, need in enumerate(needed) if need]
        grads: list[Any] = [torch.zeros_like(x) if need else None for x, need in zip(tensors, needed)]
        total = weights.new_zeros((), dtype=torch.promote_types(weights.dtype, torch.float32))
        for b, count in enumerate((weights != 0).sum(1).tolist()):
            if not count:
                continue

            def tiles(x: Tensor, shared: bool = False, b: int = b, count: int = count) -> Iterable[Tensor]:
                image = x[b : b + 1]
                return repeat(image) if shared else image[:, :count].split(step, 1)

            columns = [tiles(x, i < num_shared) for i, x in enumerate(tensors)]
            sums = [tiles(grads[i], i < num_shared) for i in wanted]
            for weight, parts, into in zip(tiles(weights), zip(*columns), zip(*sums) if sums else repeat(())):
                with torch.enable_grad():
                    leaves = [x.detach().requires_grad_(need) for x, need in zip(parts, needed)]
                    value = (function(*leaves) * weight).sum()
                total += value.detach()
                if wanted:
                    found = torch.autograd.grad(value, [leaves[i] for i in wanted], allow_unused=True)
                    for place, grad in zip(into, found):
                        if grad is not None:
                            place += grad
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, None, *(None if x is None else x * grad for x in ctx.saved_tensors)


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
def dynamic_inputs(
    features: Tensor,
    params: Tensor,
    points: Tensor,
    reach: Tensor,
    locations: Sequence[Tensor],
    counts: tuple[Sequence[int], Sequence[int]],
) -> tuple[Tensor, list[Tensor]]:
    """What :func:`dynamic_logits` takes: for each slot a small network of convolutions (CondInst, Sec. 3.2).

    Its inputs are the way from each cell to the object's point, in units of ``reach``, then the features.

    Args:
        features: ``(B, C, h, w)``.
        params: ``(B, S, n)``, ``counts`` of weights and biases by layer.
        points, reach: ``(B, S, 2)`` xy and ``(B, S)``, in pixels.
        locations: x ``(w,)`` and y ``(h,)`` of the cells, in pixels.

    Returns:
        Maps ``(B, 2 + C, h, w)``, and ``(B, S, ...)`` weights and biases of the layers.
    """
    weights, biases = split_parameters(params, *counts)
    # The way is linear in x and y: the first layer of all slots of a picture is one product with maps that they share.
    x, y = locations
    shape = (features.shape[0], 1, *features.shape[2:])
    maps = torch.cat([x.expand(shape), y[:, None].expand(shape), features], 1)
    way = weights[0][..., :2] / reach[..., None, None]  # (B, S, out, 2)
    bias = biases[0] + (way * points[:, :, None]).sum(-1)
    return maps, [torch.cat([-way, weights[0][..., 2:]], -1), *weights[1:], bias, *biases[1:]]


@in_float32
def dynamic_logits(maps: Tensor, *layers: Tensor) -> Tensor:
    """Logits ``(B, S, h, w)`` by what :func:`dynamic_inputs` gives; they have no second derivative."""
    return _DynamicLayers.apply(maps, *layers) if torch.is_grad_enabled() else _run(maps, layers)[0]


def _run(maps: Tensor, layers: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits, and weights and inputs of products: one of each image in the first layer, then one of each slot."""
    half = len(layers) // 2
    weights = [layers[0].flatten(1, 2), *(weight.flatten(0, 1) for weight in layers[1:half])]
    biases = [layers[half].flatten(1)[..., None], *(bias.flatten(0, 1)[..., None] for bias in layers[half + 1 :])]
    inputs = [maps.flatten(2)]
    found = torch.baddbmm(biases[0], weights[0], inputs[0])
    for weight, bias in zip(weights[1:], biases[1:]):
        found = found.relu_()  # in place before it is a view, else it is copied
        inputs.append(found.view(weight.shape[0], weight.shape[2], inputs[0].shape[2]))
        found = torch.baddbmm(bias, weight, inputs[-1])
    return found.view(*layers[0].shape[:2], *maps.shape[2:]), weights, inputs


class _DynamicLayers(torch.autograd.Function):
    """:func:`dynamic_logits`, with products in the order that is the fastest for a few channels and many cells."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, *layers: Tensor) -> Tensor:
        logits, weights, inputs = _run(maps, layers)
        ctx.shapes = maps.shape, *(layer.shape for layer in layers)
        ctx.save_for_backward(*weights, *inputs)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        saved = ctx.saved_tensors
        weights, inputs = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        of_weights, of_biases = [], []
        for weight, x in zip(weights[:0:-1], inputs[:0:-1]):
            grad = grad.reshape(weight.shape[0], weight.shape[1], x.shape[2])
            of_weights.append(torch.bmm(grad, x.mT))
            of_biases.append(grad.sum(2))
            grad = weight.mT * grad if weight.shape[1] == 1 else torch.bmm(weight.mT, grad)
            torch.ops.aten.threshold_backward.grad_input(grad, x, 0, grad_input=grad)  # 0 where x is not above it
        grad = grad.view(weights[0].shape[0], weights[0].shape[1], inputs[0].shape[2])
        of_weights.append(torch.bmm(inputs[0], grad.mT).mT)
        of_biases.append(grad.sum(2))
        grads = [torch.bmm(weights[0].mT, grad), *of_weights[::-1], *of_biases[::-1]]
        return tuple(x.reshape(shape) for x, shape in zip(grads, ctx.shapes))


def activations_of(maps: Tensor, layers: Sequence[Tensor]) -> int:
    """Values that the backward pass of :func:`dynamic_logits` needs of one slot of one image."""
    return maps[0, 0].numel() * sum(bias.shape[2] for bias in layers[len(layers) // 2 :])


def aligned_bilinear(tensor: Tensor, factor: int) -> Tensor:
    """Enlarge (B, C, H, W) so that cell i of the source lies on cell ``factor * i + factor // 2`` of the result.

    This is how CondInst (arXiv:2003.05664) upsamples its masks.
    """
    if tensor.dim() != 4 or factor < 1 or int(factor) != factor:
        raise UserValueError(
            f'aligned_bilinear takes (B, C, H, W) and a whole factor, not {tensor.dim()}-d and {factor}'
        )
    return tensor if factor == 1 else _spread(_spread(tensor, factor, 2), factor, 3)


def _spread(tensor: Tensor, factor: int, dim: int) -> Tensor:
    """Along one axis: each cell and, between it and its neighbours, mixtures of both."""
    size, middle = tensor.shape[dim], factor // 2
    before = torch.cat([tensor.narrow(dim, 0, 1), tensor.narrow(dim, 0, size - 1)], dim)
    parts = [torch.lerp(before, tensor, 1 - (middle - i) / factor) for i in range(middle)] + [tensor]
    if middle + 1 < factor:
        behind = torch.cat([tensor.narrow(dim, 1, size - 1), tensor.narrow(dim, size - 1, 1)], dim)
        parts += [torch.lerp(tensor, behind, i / factor) for i in range(1, factor - middle)]
    return torch.stack(parts, dim + 1).flatten(dim, dim + 1)


def enlarged_by_phase(tensor: Tensor, factor: int, middle: float) -> Tensor:
    """Enlarge (B, C, H, W) with bilinear weights for losses that do not look at the order of cells.

    Of cells ``factor * i + k`` along each axis, which lie at ``i + (k - middle) / factor`` of the source, those of
    k = 0 come first, then those of k = 1, and so on: to put them in their order takes longer than all else.
    """
    return tensor if factor == 1 else _Phases.apply(tensor, [(k - middle) / factor for k in range(factor)])


class _Phases(torch.autograd.Function):
    """Along each axis, mixtures of cells and those beside them, by the places between -1 and 1 of each mixture."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, places: list[float]) -> Tensor:
        ctx.places = places
        for dim in (2, 3):
            shape = tensor.shape
            found = tensor.new_empty(*shape[:dim], len(places), *shape[dim:])
            for place, part in zip(places, found.unbind(dim)):
                if not place:
                    part.copy_(tensor)
                    continue
                inner, other, edge = _beside(tensor, place, dim)
                to, _, to_edge = _beside(part, place, dim)
                torch.lerp(inner, other, abs(place), out=to)
                to_edge.copy_(edge)
            tensor = found.flatten(dim, dim + 1)
        return tensor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        for dim in (3, 2):
            parts = grad.unflatten(dim, (len(ctx.places), -1)).unbind(dim)
            grad = parts[0] * (1 - abs(ctx.places[0]))
            for place, part in zip(ctx.places[1:], parts[1:]):
                grad.add_(part, alpha=1 - abs(place))
            for place, part in zip(ctx.places, parts):
                if not place:
                    continue
                inner, _, edge = _beside(part, place, dim)
                _, to, to_edge = _beside(grad, place, dim)
                to.add_(inner, alpha=abs(place))
                to_edge.add_(edge, alpha=abs(place))
        return grad, None


def _beside(x: Tensor, place: float, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one axis the cells with a neighbour on the side of ``place``, these neighbours, and the cell without."""
    count = x.shape[dim] - 1
    first, last = x.narrow(dim, 0, count), x.narrow(dim, 1, count)
    return (last, first, x.narrow(dim, 0, 1)) if place < 0 else (first, last, x.narrow(dim, count, 1))


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
    x, y = (_from_minus_one_to_one(side, maps) for side in (width, height))
    y = y[:, None]
    return torch.cat([maps, x.expand(maps.shape[0], 1, height, -1), y.expand(maps.shape[0], 1, -1, width)], 1)


def _from_minus_one_to_one(steps: int, like: Tensor) -> Tensor:
    if is_symbolic(steps):  # linspace takes none that is unknown
        return (torch.arange(steps, device=like.device) * 2 / (steps - 1) - 1).to(like.dtype)
    return torch.linspace(-1, 1, steps, dtype=like.dtype, device=like.device)
