"""Convolutions of 3x3 with a quarter of the multiplications, for CPUs.

Winograd's minimal filtering F(4x4, 3x3), Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks",
arXiv:1509.09308, section 4.3. A tile of 6x6 inputs gives 4x4 outputs: 36 products instead of 144 for each pair of
channels. The products of all tiles are 36 matrix products; the three transforms are products with small constant
matrices. oneDNN has no such kernel for processors without AVX-512.

Letters: T tiles, C input channels, O output channels.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

TILE, WINDOW = 4, 6
MIN_TILES = 100
"""Below this the transforms cost more than the products that they save."""
_TILES_AT_ONCE = 1200


@cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Kronecker squares of the matrices of Lavin & Gray: inputs (36, 36), weights (36, 9), outputs (16, 36)."""
    inputs = [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
    weights = [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
    outputs = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    with torch.inference_mode(False):
        a, b, c = (torch.tensor(rows, dtype=torch.float64) for rows in (inputs, weights, outputs))
        return torch.kron(a, a).to(dtype), torch.kron(b, b).to(dtype), torch.kron(c, c).to(dtype)


def _tile_input(x: Tensor, rows: int, columns: int) -> Tensor:
    """``(B, H, W, C)`` -> transformed overlapping tiles ``(36, T, C)``."""
    height, width, channels = x.shape[1:]
    x = F.pad(x, (0, 0, 1, TILE * columns + 1 - width, 1, TILE * rows + 1 - height))
    windows = x.unfold(1, WINDOW, TILE).unfold(2, WINDOW, TILE)
    flat = windows.permute(4, 5, 0, 1, 2, 3).reshape(WINDOW * WINDOW, -1)
    return torch.mm(_transforms(x.dtype)[0], flat).view(WINDOW * WINDOW, -1, channels)


def _untile_input_grad(grad: Tensor, shape: tuple[int, ...], rows: int, columns: int) -> Tensor:
    """The transpose of :func:`_tile_input`: sums the overlapping tiles of ``(36, T, C)`` into ``(B, H, W, C)``."""
    batch, height, width, channels = shape
    flat = torch.mm(_transforms(grad.dtype)[0].t(), grad.reshape(WINDOW * WINDOW, -1))
    windows = flat.view(WINDOW, WINDOW, batch, rows, columns, channels).permute(2, 3, 0, 4, 1, 5)
    out = grad.new_zeros(batch, rows + 1, TILE, columns + 1, TILE, channels)
    own, over = slice(None, TILE), slice(TILE, None)  # the last two lines of a window belong to the next tile
    out[:, :-1, :, :-1] = windows[:, :, own, :, own]
    out[:, 1:, :2, :-1] += windows[:, :, over, :, own]
    out[:, :-1, :, 1:, :2] += windows[:, :, own, :, over]
    out[:, 1:, :2, 1:, :2] += windows[:, :, over, :, over]
    out = out.view(batch, TILE * (rows + 1), TILE * (columns + 1), channels)
    return out[:, 1 : height + 1, 1 : width + 1]


def _tile_output_grad(grad: Tensor, rows: int, columns: int) -> Tensor:
    """``(B, H, W, O)`` -> gradient of the products ``(36, T, O)``."""
    batch, height, width, channels = grad.shape
    if (height % TILE, width % TILE) != (0, 0):  # padding by nothing would copy
        grad = F.pad(grad, (0, 0, 0, TILE * columns - width, 0, TILE * rows - height))
    tiles = grad.reshape(batch, rows, TILE, columns, TILE, channels).permute(2, 4, 0, 1, 3, 5)
    flat = torch.mm(_transforms(grad.dtype)[2].t(), tiles.reshape(TILE * TILE, -1))
    return flat.view(WINDOW * WINDOW, -1, channels)


def _tile_weight(weight: Tensor) -> Tensor:
    """``(O, C, 3, 3)`` -> ``(36, C, O)``."""
    flat = torch.mm(_transforms(weight.dtype)[1], weight.permute(2, 3, 1, 0).reshape(9, -1))
    return flat.view(WINDOW * WINDOW, weight.shape[1], weight.shape[0])


def _chunks(x: Tensor) -> tuple[int, int, list[slice]]:
    """Rows and columns of tiles, and groups of images that bound the memory of the transformed tiles."""
    rows, columns = -(-x.shape[1] // TILE), -(-x.shape[2] // TILE)
    images = max(1, _TILES_AT_ONCE // (rows * columns))
    return rows, columns, [slice(first, first + images) for first in range(0, len(x), images)]


class _WinogradConv(torch.autograd.Function):
    """Convolution of ``(B, H, W, C)``, channels last, with its exact gradients; nothing transformed is kept."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        height, width = x.shape[1:3]
        rows, columns, chunks = _chunks(x)
        kernel = _tile_weight(weight)
        out = x.new_empty(len(x), height, width, len(weight))
        for chunk in chunks:
            products = torch.bmm(_tile_input(x[chunk], rows, columns), kernel)
            if bias is not None:
                products[WINDOW + 1] += bias  # the element that every output of the tile counts once
            tiles = torch.mm(_transforms(x.dtype)[2], products.view(WINDOW * WINDOW, -1))
            tiles = tiles.view(TILE, TILE, -1, rows, columns, len(weight)).permute(2, 3, 0, 4, 1, 5)
            if (height % TILE, width % TILE) == (0, 0):
                out[chunk].view(tiles.shape).copy_(tiles)
            else:
                out[chunk] = tiles.reshape(-1, TILE * rows, TILE * columns, len(weight))[:, :height, :width]
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows, columns, chunks = _chunks(x)
        need_x, need_weight, need_bias = ctx.needs_input_grad
        kernel = _tile_weight(weight).transpose(1, 2)
        grad_x, grad_kernel = torch.empty_like(x), torch.zeros_like(kernel.transpose(1, 2))
        for chunk in chunks:
            grad_products = _tile_output_grad(grad[chunk], rows, columns)
            if need_weight:
                grad_kernel.baddbmm_(_tile_input(x[chunk], rows, columns).transpose(1, 2), grad_products)
            if need_x:
                grad_tiles = torch.bmm(grad_products, kernel)
                grad_x[chunk] = _untile_input_grad(grad_tiles, x[chunk].shape, rows, columns)
        grad_weight = None
        if need_weight:
            flat = torch.mm(_transforms(x.dtype)[1].t(), grad_kernel.view(WINDOW * WINDOW, -1))
            grad_weight = flat.view(3, 3, weight.shape[1], weight.shape[0]).permute(3, 2, 0, 1)
        return grad_x if need_x else None, grad_weight, grad.sum((0, 1, 2)) if need_bias else None


def winograd_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.conv2d(x, weight, bias, padding=1)`` for a 3x3 kernel, equal up to rounding.

    In float32 the largest error is about five times that of the direct sum, that is about 1e-5 of the largest output.

    Args:
        x: ``(B, C, H, W)``.
        weight: ``(O, C, 3, 3)``.
        bias: ``(O,)``.

    Returns:
        ``(B, O, H, W)`` in channels-last memory format.
    """
    return _WinogradConv.apply(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


class WinogradConv2d(nn.Conv2d):
    """A convolution that takes the way of Winograd where it pays: on CPUs, in float32, on large maps.

    Which convolutions of a model are of this class is decided in :mod:`mmdet.engine.acceleration`.
    """

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> WinogradConv2d:
        """One that takes over the parameters, hooks and settings of another convolution."""
        module = cls.__new__(cls)
        module.__dict__.update(convolution.__dict__)
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Large maps in single precision on CPUs by Winograd's method, all else by the direct sum."""
        tiles = len(x) * -(-x.shape[-2] // TILE) * -(-x.shape[-1] // TILE) if x.dim() == 4 else 0
        if (
            tiles < MIN_TILES
            or x.device.type != 'cpu'
            or x.dtype != torch.float32
            or self.weight.dtype != torch.float32
            or torch.is_autocast_enabled('cpu')
        ):
            return super().forward(x)
        return winograd_conv2d(x, self.weight, self.bias)
