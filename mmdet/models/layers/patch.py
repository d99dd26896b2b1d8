"""Images as sequences of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserTypeError, UserValueError
from mmdet.models.layers.building import build_conv_layer, build_norm_layer


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def nlc_to_nchw(x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """(B, H*W, C) -> (B, C, H, W)

    Raises:
        ValueError: if the sequence is not ``H*W`` long.
    """
    height, width = hw_shape
    if x.ndim != 3 or x.shape[1] != height * width:
        raise UserValueError(f'a sequence of shape {tuple(x.shape)} is no (B, {height} * {width}, C)')
    return x.transpose(1, 2).reshape(x.shape[0], -1, height, width)


def nchw_to_nlc(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H*W, C), contiguous"""
    return x.flatten(2).transpose(1, 2).contiguous()


class AdaptivePadding(nn.Module):
    """Zero padding after which a sliding kernel of this stride covers the whole input.

    Args:
        padding: 'corner' pads at the bottom and right, 'same' on all sides.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        padding: str = 'corner',
    ) -> None:
        super().__init__()
        if padding not in ('same', 'corner'):
            raise UserValueError(f"padding must be 'same' or 'corner', got {padding!r}")
        self.padding = padding
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.dilation = _pair(dilation)

    def get_pad_shape(self, input_shape: tuple[int, int]) -> tuple[int, int]:
        """How many rows and columns are missing."""
        pads = []
        for size, kernel, stride, dilation in zip(
            input_shape, self.kernel_size, self.stride, self.dilation, strict=True
        ):
            steps = math.ceil(size / stride) - 1
            pads.append(max(steps * stride + (kernel - 1) * dilation + 1 - size, 0))
        return pads[0], pads[1]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)``, padded until the kernel covers every pixel."""
        rows, columns = self.get_pad_shape((x.shape[-2], x.shape[-1]))
        if rows == columns == 0:
            return x
        if self.padding == 'corner':
            return F.pad(x, (0, columns, 0, rows))
        return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


class _SlidingPatches(BaseModule):
    """What embedding and merging share: stride, and padding that is adaptive when given by name."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None,
        padding: str | int | tuple[int, int],
        dilation: int | tuple[int, int],
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(init_cfg)
        self.kernel_size = _pair(kernel_size)
        self.stride = self.kernel_size if stride is None else _pair(stride)
        self.dilation = _pair(dilation)
        if isinstance(padding, str):
            self.adaptive_padding: AdaptivePadding | None = AdaptivePadding(
                self.kernel_size, self.stride, self.dilation, padding
            )
            padding = 0
        else:
            self.adaptive_padding = None
        self.padding = _pair(padding)

    def pad(self, x: Tensor) -> Tensor:
        return x if self.adaptive_padding is None else self.adaptive_padding(x)

    def out_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Number of patches in an input of this padded size."""
        terms = zip(size, self.padding, self.dilation, self.kernel_size, self.stride, strict=True)
        height, width = ((s + 2 * p - d * (k - 1) - 1) // t + 1 for s, p, d, k, t in terms)
        return height, width


class PatchEmbed(_SlidingPatches):
    """An image as a sequence of embedded patches, by one convolution.

    Args:
        padding: 'corner' or 'same' for :class:`AdaptivePadding`, else the padding of the convolution.
        input_size: If given, ``init_out_size`` is the number of patches along each axis for it.
    """

    def __init__(
        self,
        in_channels: int = 3,
        embed_dims: int = 768,
        conv_type: str = 'Conv2d',
        kernel_size: int | tuple[int, int] = 16,
        stride: int | tuple[int, int] | None = 16,
        padding: str | int | tuple[int, int] = 'corner',
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        norm_cfg: dict | None = None,
        input_size: int | tuple[int, int] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, init_cfg)
        self.embed_dims = embed_dims
        self.projection = build_conv_layer(
            dict(type=conv_type),
            in_channels,
            embed_dims,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            bias=bias,
        )
        self.norm = None if norm_cfg is None else build_norm_layer(norm_cfg, embed_dims)[1]
        self.init_input_size = self.init_out_size = None
        if input_size is not None:
            self.init_input_size = _pair(input_size)
            rows, columns = (0, 0)
            if self.adaptive_padding is not None:
                rows, columns = self.adaptive_padding.get_pad_shape(self.init_input_size)
            self.init_out_size = self.out_size((self.init_input_size[0] + rows, self.init_input_size[1] + columns))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C, H, W) -> (B, L, D) and the number of patches along the two axes"""
        x = self.projection(self.pad(x))
        out_size = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)
        return (x if self.norm is None else self.norm(x)), out_size


class PatchMerging(_SlidingPatches):
    """Neighbouring patches joined and projected (Swin, arXiv:2103.14030, Sec. 3.1).

    The joined channels are ordered channel first, then row and column inside the kernel, as ``unfold`` gives them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: str | int | tuple[int, int] = 'corner',
        dilation: int | tuple[int, int] = 1,
        bias: bool = False,
        norm_cfg: dict | None = dict(type='LN'),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, init_cfg)
        self.in_channels = in_channels
        self.out_channels = out_channels
        joined = in_channels * self.kernel_size[0] * self.kernel_size[1]
        self.norm = None if norm_cfg is None else build_norm_layer(norm_cfg, joined)[1]
        self.reduction = nn.Linear(joined, out_channels, bias=bias)

    def forward(self, x: Tensor, input_size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """(B, H*W, C) with ``input_size`` (H, W) -> (B, L, D) and the number of patches along the two axes"""
        if not isinstance(input_size, Sequence) or len(input_size) != 2:
            raise UserTypeError(f'input_size must be (H, W), got {input_size!r}')
        x = self.pad(nlc_to_nchw(x, input_size))
        out_size = self.out_size((x.shape[-2], x.shape[-1]))
        x = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride).transpose(1, 2)
        return self.reduction(x if self.norm is None else self.norm(x)), out_size
