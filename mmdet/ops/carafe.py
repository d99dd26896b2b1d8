"""CARAFE (arXiv:1905.02188): upsampling with a kernel of its own for every output cell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.registry import MODELS


def carafe(features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """Reassemble features (its Eq. 4).

    Args:
        features: Shape (B, C, H, W).
        masks: Kernels, shape (B, group_size * kernel_size ** 2, H * scale_factor, W * scale_factor).
        kernel_size: Odd.
        group_size: Groups of channels with kernels of their own.

    Returns:
        Shape (B, C, H * scale_factor, W * scale_factor).

    Raises:
        ValueError: if the shapes do not fit.
    """
    batch, channels, height, width = features.shape
    expected = (batch, group_size * kernel_size**2, height * scale_factor, width * scale_factor)
    if tuple(masks.shape) != expected or channels % group_size or kernel_size % 2 == 0:
        raise UserValueError(
            f'carafe of features {tuple(features.shape)} with kernel_size={kernel_size}, group_size={group_size} and '
            f'scale_factor={scale_factor} needs an odd kernel_size, channels divisible by group_size and masks of '
            f'shape {expected}, got {tuple(masks.shape)}.'
        )
    radius = kernel_size // 2
    padded = F.pad(features, (radius,) * 4).unflatten(1, (group_size, channels // group_size))
    kernels = masks.reshape(batch, group_size, kernel_size**2, height, scale_factor, width, scale_factor)
    shape = (batch, group_size, channels // group_size, height, scale_factor, width, scale_factor)
    output = torch.zeros(shape, dtype=torch.promote_types(features.dtype, masks.dtype), device=features.device)
    # One tap at a time: autograd then keeps views of the two inputs, and no unfolded features.
    for tap in range(kernel_size**2):
        dy, dx = divmod(tap, kernel_size)
        shifted = padded[..., dy : dy + height, dx : dx + width]
        output = output + shifted[:, :, :, :, None, :, None] * kernels[:, :, None, tap]
    return output.reshape(batch, channels, height * scale_factor, width * scale_factor)


carafe_naive = carafe


class CARAFE(nn.Module):
    """See :func:`carafe`."""

    def __init__(self, kernel_size: int, group_size: int, scale_factor: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.group_size = group_size
        self.scale_factor = scale_factor

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Features ``(B, C, H, W)`` and masks ``(B, g * k * k, s * H, s * W)`` -> ``(B, C, s * H, s * W)``."""
        return carafe(features, masks, self.kernel_size, self.group_size, self.scale_factor)


CARAFENaive = CARAFE


@MODELS.register_module('carafe')
class CARAFEPack(nn.Module):
    """CARAFE that predicts its kernels.

    Args:
        channels: Of the input.
        up_kernel: Size of the reassembly kernels.
        up_group: Groups of channels with kernels of their own.
        encoder_kernel: Size of the convolution that predicts kernels.
        compressed_channels: Channels that it sees.
    """

    def __init__(
        self,
        channels: int,
        scale_factor: int,
        up_kernel: int = 5,
        up_group: int = 1,
        encoder_kernel: int = 3,
        encoder_dilation: int = 1,
        compressed_channels: int = 64,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.scale_factor = scale_factor
        self.up_kernel = up_kernel
        self.up_group = up_group
        self.encoder_kernel = encoder_kernel
        self.encoder_dilation = encoder_dilation
        self.compressed_channels = compressed_channels
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            compressed_channels,
            up_kernel**2 * up_group * scale_factor**2,
            encoder_kernel,
            padding=(encoder_kernel - 1) * encoder_dilation // 2,
            dilation=encoder_dilation,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier's rule for the compressor, nearly uniform kernels at the start."""
        nn.init.xavier_uniform_(self.channel_compressor.weight)
        nn.init.normal_(self.content_encoder.weight, std=0.001)
        for conv in (self.channel_compressor, self.content_encoder):
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def kernel_normalizer(self, mask: Tensor) -> Tensor:
        """Kernels that sum to one, at the size of the output."""
        mask = F.pixel_shuffle(mask, self.scale_factor)
        return mask.unflatten(1, (-1, self.up_kernel**2)).softmax(2).flatten(1, 2)

    def feature_reassemble(self, x: Tensor, mask: Tensor) -> Tensor:
        """As :func:`carafe`, with the sizes of this module."""
        return carafe(x, mask, self.up_kernel, self.up_group, self.scale_factor)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C, s * H, s * W)``."""
        return self.feature_reassemble(x, self.kernel_normalizer(self.content_encoder(self.channel_compressor(x))))
