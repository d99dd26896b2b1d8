"""RoIAlign of the regions of all levels of a pyramid in one go.

Letters: B images, K regions, C channels, h and w of a pooled region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .compiled import may_sum_in_any_order
from .fixed_size import is_fixed_size


def has_kernel(feats: Sequence[Tensor]) -> bool:
    """Whether :func:`roi_align_levels` serves these maps: on a GPU with Triton."""
    first = feats[0]
    return (
        may_sum_in_any_order(first)
        and all(feat.dtype == first.dtype and feat.shape[:2] == first.shape[:2] for feat in feats[1:])
        and not is_fixed_size()
        and not torch.jit.is_tracing()
        and torch.__version__ >= '2.7'  # whose Triton takes tuples of maps
    )


def roi_align_levels(
    feats: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    output_size: tuple[int, int],
    scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """:func:`mmdet.ops.roi_align` of each region on its own level, by one kernel, where :func:`has_kernel` says so.

    Reads half precision as it is and sums in single precision. The host waits for nothing.

    Args:
        feats: Maps ``(B, C, H, W)`` of one type.
        rois: ``(K, 5)``.
        levels: Integers ``(K,)``; a region of a level that does not exist gets zeros. None for a single map.
        scales: Cells per pixel of each map.

    Returns:
        ``(K, C, h, w)`` of the type and the memory layout of the maps.
    """
    rois = rois.detach().float()
    return pool_levels(list(feats), rois, levels, list(output_size), list(scales), sampling_ratio, aligned)


@torch.library.custom_op(
    'mmdet::pool_levels',
    mutates_args=(),
    schema=(
        '(Tensor[] feats, Tensor rois, Tensor? levels, int[] size, float[] scales, int sampling_ratio, bool aligned)'
        ' -> Tensor'
    ),
)
def pool_levels(
    feats: list[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    size: list[int],
    scales: list[float],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """:func:`roi_align_levels` of regions in single precision."""
    from .roi_align_kernel import pool

    out = pool(feats, rois, levels, size, scales, sampling_ratio, aligned)
    return out if is_channels_last(feats[0]) else out.contiguous()


@pool_levels.register_fake
def _(feats: list[Tensor], rois: Tensor, levels: Tensor | None, size: list[int], *options: Any) -> Tensor:
    layout = torch.channels_last if is_channels_last(feats[0]) else torch.contiguous_format
    shape = (rois.shape[0], feats[0].shape[1], *size)
    return torch.empty(shape, dtype=feats[0].dtype, device=rois.device, memory_format=layout)


@torch.library.custom_op(
    'mmdet::scatter_levels',
    mutates_args=(),
    schema=(
        '(Tensor grad, Tensor rois, Tensor? levels, SymInt batch, SymInt[] heights, SymInt[] widths, float[] scales, '
        'int sampling_ratio, bool aligned) -> Tensor'
    ),
)
def scatter_levels(
    grad: Tensor,
    rois: Tensor,
    levels: Tensor | None,
    batch: int,
    heights: list[int],
    widths: list[int],
    scales: list[float],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The gradients of the maps of :func:`pool_levels`, one after another, with the channels last."""
    from .roi_align_kernel import scatter

    flat = torch.zeros(map_sizes(grad, batch, heights, widths)[-1], dtype=torch.float32, device=grad.device)
    scatter(map_views(flat, grad, batch, heights, widths), grad, rois, levels, scales, sampling_ratio, aligned)
    return flat.to(grad.dtype)


@scatter_levels.register_fake
def _(
    grad: Tensor, rois: Tensor, levels: Tensor | None, batch: int, heights: list[int], widths: list[int], *options: Any
) -> Tensor:
    return grad.new_empty(map_sizes(grad, batch, heights, widths)[-1])


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of ``(B, C, H, W)`` lie next to each other."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def map_sizes(grad: Tensor, batch: int, heights: Sequence[int], widths: Sequence[int]) -> list[int]:
    """Where each map begins among all, and where the last ends, for regions ``grad (K, C, h, w)``."""
    starts = [0]
    for height, width in zip(heights, widths, strict=True):
        starts.append(starts[-1] + batch * grad.shape[1] * height * width)
    return starts


def map_views(flat: Tensor, grad: Tensor, batch: int, heights: Sequence[int], widths: Sequence[int]) -> list[Tensor]:
    """Maps ``(B, C, H, W)`` that lie one after another with the channels last."""
    starts = map_sizes(grad, batch, heights, widths)
    return [
        flat[start:stop].view(batch, height, width, grad.shape[1]).permute(0, 3, 1, 2)
        for start, stop, height, width in zip(starts[:-1], starts[1:], heights, widths, strict=True)
    ]


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    feats, rois, levels, _, *ctx.options = inputs
    ctx.save_for_backward(rois, levels)
    ctx.batch = feats[0].shape[0]
    ctx.heights, ctx.widths = [feat.shape[2] for feat in feats], [feat.shape[3] for feat in feats]


def _backward(ctx: Any, grad: Tensor) -> tuple:
    sides = ctx.batch, ctx.heights, ctx.widths
    flat = scatter_levels(grad, *ctx.saved_tensors, *sides, *ctx.options)
    return map_views(flat, grad, *sides), *[None] * 6


pool_levels.register_autograd(_backward, setup_context=_setup)
