"""Multi-scale deformable attention (Deformable DETR, arXiv:2010.04159, Eq. 3).

Letters: B images, S cells of all levels, H heads, D channels of a head, Q queries, L levels, K points.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .compiled import compiled_mmcv, may_sum_in_any_order
from .fixed_size import is_symbolic, stacked_numbers

AUTOCAST_DEVICES = tuple(kind for kind in ('cpu', 'cuda', 'mps', 'xpu') if torch.amp.is_autocast_available(kind))
"""Asked once, for `torch.compile` cannot follow the question."""


def multi_scale_deformable_attn_pytorch(
    value: Tensor,
    value_spatial_shapes: Tensor | Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples of all levels.

    Args:
        value: Shape (B, S, H, D).
        value_spatial_shapes: Height and width of each level. A tensor on a device is read back: pass numbers, or a
            tensor on the CPU, to avoid that.
        sampling_locations: x and y relative to the level, in ``[0, 1]``, shape (B, Q, H, L, K, 2).
        attention_weights: Shape (B, Q, H, L, K).

    Returns:
        Shape (B, Q, H * D).
    """
    sampling = _of_all_levels(sampling_locations, attention_weights)
    return _sums_by_level(value, _on_host(value_spatial_shapes), *sampling, nearest=False)


def _of_all_levels(locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """``(B, Q, H, L, K, 2)`` and ``(B, Q, H, L, K)`` as ``(B, Q, H, P, 2)`` and ``(B, Q, H, P)``, and L times K."""
    return locations.flatten(3, 4), weights.flatten(3), [locations.shape[4]] * locations.shape[3]


def sampled_sums(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    points: Sequence[int],
    nearest: bool = False,
) -> Tensor:
    """As :func:`multi_scale_deformable_attn_pytorch`, of levels that may have different numbers of points.

    On a GPU one kernel, unless the results have to be the same in every run.

    Args:
        locations: Of all levels, shape (B, Q, H, P, 2).
        weights: Shape (B, Q, H, P).
        points: How many of P each level has.
        nearest: Take the cell whose index is nearest to ``location * size``, and the one at the border beyond it,
            without a gradient of the locations (RT-DETRv2, arXiv:2407.17140, "discrete sampling").
    """
    shapes = _on_host(spatial_shapes)
    if _has_kernel(value, locations, weights):
        sizes = [size for shape in shapes for size in shape]
        return deformable_sums(value, locations, weights, sizes, list(points), nearest)
    return _sums_by_level(value, shapes, locations, weights, points, nearest)


def _has_kernel(value: Tensor, locations: Tensor, weights: Tensor) -> bool:
    return (
        all(map(may_sum_in_any_order, (value, locations, weights)))
        and max(math.prod(value.shape[1:]), math.prod(locations.shape[1:])) < 2**31  # within an image, 32 bits
        and value.shape[0] < 2**16  # programs along one axis
    )


def _sums_by_level(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    points: Sequence[int],
    nearest: bool,
) -> Tensor:
    """:func:`sampled_sums` where there is no kernel: the samples of one level are in memory at a time."""
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    levels = value.split([height * width for height, width in shapes], dim=1)
    by_head = lambda x: x.to(value.dtype).transpose(1, 2).flatten(0, 1)  # (B * H, Q, K, ...)
    output = value.new_zeros(batch * heads, channels, queries)
    if not output.numel():
        nothing = value.sum() + locations.sum() + weights.sum()
        return output.reshape(batch, queries, heads * channels) + nothing * 0
    parts = zip(levels, shapes, locations.split(list(points), 3), weights.split(list(points), 3))
    for level, (height, width), place, weight in parts:
        maps = level.permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        if nearest:
            sampled = _nearest(maps, place.transpose(1, 2).flatten(0, 1))
        else:
            grid = by_head(2 * place - 1)
            sampled = F.grid_sample(maps, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
        output = output + (sampled * by_head(weight)[:, None]).sum(-1)
    return output.reshape(batch, heads * channels, queries).transpose(1, 2)


def _nearest(maps: Tensor, locations: Tensor) -> Tensor:
    """``(N, D, Q, K)`` cells of ``maps (N, D, H, W)`` at ``locations (N, Q, K, 2)``."""
    height, width = maps.shape[-2:]
    x = (locations[..., 0] * width + 0.5).long().clamp(0, width - 1)
    y = (locations[..., 1] * height + 0.5).long().clamp(0, height - 1)
    cells = (y * width + x).flatten(1)[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, cells).unflatten(2, locations.shape[1:3])


@torch.library.custom_op(
    'mmdet::deformable_sums',
    mutates_args=(),
    schema='(Tensor value, Tensor locations, Tensor weights, SymInt[] sizes, int[] points, bool nearest) -> Tensor',
)
def deformable_sums(
    value: Tensor, locations: Tensor, weights: Tensor, sizes: Sequence[int], points: Sequence[int], nearest: bool
) -> Tensor:
    """:func:`sampled_sums` by one kernel, on a GPU, in the type of ``value``.

    Args:
        sizes: Height and width of each level in turn.
    """
    from .multi_scale_deform_attn_kernel import launch

    return launch(value, locations, weights, sizes, points, nearest)


@deformable_sums.register_fake
def _(value: Tensor, locations: Tensor, weights: Tensor, sizes: Any, points: Any, nearest: bool) -> Tensor:
    return value.new_empty(*locations.shape[:2], value.shape[2] * value.shape[3])


@torch.library.custom_op(
    'mmdet::deformable_sums_backward',
    mutates_args=(),
    schema='(Tensor grad, Tensor value, Tensor locations, Tensor weights, SymInt[] sizes, int[] points, bool nearest)'
    ' -> (Tensor, Tensor, Tensor)',
)
def deformable_sums_backward(
    grad: Tensor,
    value: Tensor,
    locations: Tensor,
    weights: Tensor,
    sizes: Sequence[int],
    points: Sequence[int],
    nearest: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the values, the locations and the weights of :func:`deformable_sums`; of the locations of nearest
    cells, which have none, an empty tensor."""
    from .multi_scale_deform_attn_kernel import launch_backward

    return launch_backward(grad, value, locations, weights, sizes, points, nearest)


@deformable_sums_backward.register_fake
def _(
    grad: Tensor, value: Tensor, locations: Tensor, weights: Tensor, sizes: Any, points: Any, nearest: bool
) -> tuple[Tensor, Tensor, Tensor]:
    places = locations.new_empty(0 if nearest else locations.shape)
    return value.new_empty(value.shape), places, weights.new_empty(weights.shape)


def _keep(ctx: Any, inputs: tuple, output: Tensor) -> None:
    value, locations, weights, ctx.sizes, ctx.points, ctx.nearest = inputs
    ctx.save_for_backward(value, locations, weights)


def _gradients(ctx: Any, grad: Tensor) -> tuple:
    options = ctx.sizes, ctx.points, ctx.nearest
    values, places, factors = deformable_sums_backward(grad, *ctx.saved_tensors, *options)
    return values, None if ctx.nearest else places, factors, None, None, None


deformable_sums.register_autograd(_gradients, setup_context=_keep)


def _on_host(shapes: Tensor | Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    rows = shapes.tolist() if isinstance(shapes, Tensor) else shapes
    numbers = [[side if is_symbolic(side) else int(side) for side in row] for row in rows]
    return [(height, width) for height, width in numbers]


def multi_scale_deformable_attn(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[tuple[int, int]],
    level_start_index: Tensor | None,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """As :func:`multi_scale_deformable_attn_pytorch`, by a kernel on a GPU: ours, or mmcv's where mmcv was compiled."""
    if _has_kernel(value, sampling_locations, attention_weights):
        return sampled_sums(value, spatial_shapes, *_of_all_levels(sampling_locations, attention_weights))
    mmcv_ops = compiled_mmcv() if value.is_cuda and not torch.compiler.is_compiling() else None
    if mmcv_ops is None or level_start_index is None:
        return multi_scale_deformable_attn_pytorch(value, spatial_shapes, sampling_locations, attention_weights)
    spatial_shapes = torch.as_tensor(spatial_shapes).to(value.device, non_blocking=True)
    level_start_index = level_start_index.to(value.device, non_blocking=True)
    function = mmcv_ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction
    return function.apply(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step)


def cast_once(x: Tensor) -> Tensor:
    """In the type in which autocast computes products: what several layers take is cast, and kept, once."""
    device = x.device.type
    wanted = x.dtype == torch.float32 and device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device)
    return x.to(torch.get_autocast_dtype(device)) if wanted else x


def init_sampling(attention: Any, num_heads: int, points: Sequence[int]) -> None:
    """Points lie on rays around the reference, one direction per head, at distances of 1, 2 ... cells of each level.

    Args:
        attention: Has the linear layers ``sampling_offsets`` and ``attention_weights``, and ``value_proj`` and
            ``output_proj`` or None in their place.
        points: How many, of each level.
    """
    angle = torch.arange(num_heads, dtype=torch.float32) * (2 * math.pi / num_heads)
    ray = torch.stack([angle.cos(), angle.sin()], -1)
    ray = ray / ray.abs().amax(-1, keepdim=True)
    distance = torch.cat([torch.arange(1, count + 1, dtype=torch.float32) for count in points])
    with torch.no_grad():
        attention.sampling_offsets.bias.copy_((ray[:, None] * distance[:, None]).flatten())
    nn.init.zeros_(attention.sampling_offsets.weight)
    nn.init.zeros_(attention.attention_weights.weight)
    nn.init.zeros_(attention.attention_weights.bias)
    for projection in (attention.value_proj, attention.output_proj):
        if projection is not None:
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)


@MODELS.register_module()
class MultiScaleDeformableAttention(BaseModule):
    """Attention of each query to a few points around its reference, on every level.

    Args:
        num_points: Points per head and level.
        im2col_step: For a compiled kernel only.
        dropout: On the output, before the identity is added.
        batch_first: Queries and values are (B, Q, C), not (Q, B, C).
        norm_cfg: Accepted; has no effect.
        value_proj_ratio: Width of the values relative to ``embed_dims``.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        im2col_step: int = 64,
        dropout: float = 0.1,
        batch_first: bool = False,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
        value_proj_ratio: float = 1.0,
    ) -> None:
        super().__init__(init_cfg)
        if embed_dims % num_heads:
            raise UserValueError(f'embed_dims={embed_dims} is not divisible by num_heads={num_heads}.')
        if (embed_dims // num_heads).bit_count() != 1 and compiled_mmcv() is not None:
            warnings.warn(f'{embed_dims // num_heads} channels of a head are no power of two, which is slow on a GPU.')
        self.norm_cfg = norm_cfg
        self.batch_first = batch_first
        self.im2col_step = im2col_step
        self.embed_dims = embed_dims
        self.num_levels = num_levels
        self.num_heads = num_heads
        self.num_points = num_points
        self.dropout = nn.Dropout(dropout)
        value_dims = int(embed_dims * value_proj_ratio)
        self.sampling_offsets = nn.Linear(embed_dims, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(embed_dims, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(embed_dims, value_dims)
        self.output_proj = nn.Linear(value_dims, embed_dims)
        self.init_weights()

    def init_weights(self) -> None:
        """See :func:`init_sampling`."""
        init_sampling(self, self.num_heads, [self.num_points] * self.num_levels)
        self._is_init = True

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | Sequence[tuple[int, int]] | None = None,
        level_start_index: Tensor | None = None,
        **kwargs,
    ) -> Tensor:
        """Attend.

        Args:
            query: Shape (Q, B, C), or (B, Q, C) with ``batch_first``; so are ``value``, ``identity``, ``query_pos``.
            key: Unused.
            value: The cells of all levels; the query if not given.
            identity: Added to the result; the query without its position if not given.
            key_padding_mask: True at cells of padding, shape (B, S).
            reference_points: In ``[0, 1]``: points (B, Q, L, 2), or boxes cx cy w h (B, Q, L, 4).
            spatial_shapes: Height and width of each level, numbers or a tensor (L, 2).
            level_start_index: First cell of each level, shape (L,); for a compiled kernel only.
        """
        if reference_points is None or spatial_shapes is None:
            raise UserValueError('MultiScaleDeformableAttention needs reference_points and spatial_shapes.')
        value = query if value is None else value
        identity = query if identity is None else identity
        if query_pos is not None:
            query = query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        batch, queries, _ = query.shape
        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0)
        value = value.unflatten(-1, (self.num_heads, -1))

        query = cast_once(query)
        shape = (batch, queries, self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).reshape(*shape, 2)
        weights = self.attention_weights(query).reshape(*shape[:3], -1).softmax(-1).reshape(shape)
        reference = reference_points[:, :, None, :, None]  # (B, Q, 1, L, 1, 2 or 4)
        if reference.size(-1) == 2:
            if is_symbolic(spatial_shapes):
                sizes = stacked_numbers(spatial_shapes, reference)
            else:
                sizes = torch.as_tensor(spatial_shapes, dtype=reference.dtype)
            sizes = sizes.flip(-1)  # width, height
            locations = torch.addcdiv(reference, offsets, sizes[:, None].to(query.device, non_blocking=True))
        elif reference.size(-1) == 4:
            locations = torch.addcmul(reference[..., :2], offsets, reference[..., 2:] * (0.5 / self.num_points))
        else:
            raise UserValueError(f'reference_points have 2 or 4 coordinates, got {reference.size(-1)}.')
        output = multi_scale_deformable_attn(
            value, spatial_shapes, level_start_index, locations, weights, self.im2col_step
        )
        output = self.output_proj(output)
        if not self.batch_first:
            output = output.transpose(0, 1)
        return self.dropout(output) + identity
