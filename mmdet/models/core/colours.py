from __future__ import annotations

import torch
from torch import Tensor

from .constants import constant

# From linear sRGB to CIE XYZ, and the white D65 of an observer at 2 degrees (IEC 61966-2-1).
XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)


def rgb_to_lab(image: Tensor) -> Tensor:
    """CIE L*a*b* ``(..., 3, H, W)`` of sRGB in 0 to 1: lightness from 0 to 100, and the two opponent colours."""
    image = image.double()
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    xyz = torch.einsum('ij,...jhw->...ihw', constant(XYZ, image), linear) / constant(WHITE, image)[:, None, None]
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=0) ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -3)
