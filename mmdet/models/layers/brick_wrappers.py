from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.registry import MODELS


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """torch's; it takes a batch of no images since version 1.9, before which this function was needed."""
    return F.adaptive_avg_pool2d(input, output_size)


SiLU = nn.SiLU


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """torch's, under the name that heads import."""


@MODELS.register_module('FrozenBN')
@MODELS.register_module()
class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine values are constants: buffers, neither learnt nor updated.

    Args:
        kwargs: Other arguments of a norm layer (``requires_grad``), which a constant has no use for.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, **kwargs: Any) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.register_buffer('weight', torch.ones(num_features))
        self.register_buffer('bias', torch.zeros(num_features))
        self.register_buffer('running_mean', torch.zeros(num_features))
        self.register_buffer('running_var', torch.ones(num_features) - eps)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of the same shape and type."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]

    def extra_repr(self) -> str:
        return f'num_features={self.num_features}, eps={self.eps}'

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """``module`` with every batch norm in it replaced by a frozen one of the same values."""
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            frozen = cls(module.num_features, module.eps)
            own = module.state_dict()
            frozen.load_state_dict({name: own[name] for name in frozen.state_dict() if name in own}, strict=False)
            return frozen.to(module.running_mean.device)
        for name, child in module.named_children():
            setattr(module, name, cls.convert_frozen_batchnorm(child))
        return module


FrozenBN = FrozenBatchNorm2d
