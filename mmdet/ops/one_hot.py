from __future__ import annotations

import torch
from torch import Tensor


def one_hot(label: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Shape (..., C); labels outside ``[0, C)`` give a row of zeros."""
    return (label[..., None] == torch.arange(num_classes, device=label.device)).to(dtype)
