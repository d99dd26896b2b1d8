"""Predictors by cosine similarity: inputs and weights are scaled to unit length (seesaw loss, arXiv:2008.10032)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import normal_init
from torch import Tensor, nn

from mmdet.registry import MODELS

Linear = MODELS.register_module('Linear', module=nn.Linear)


@MODELS.register_module()
class NormedLinear(nn.Linear):
    """Linear layer on normalised inputs (..., C) and weights.

    Args:
        tempearture: Factor on the similarities, spelt as in published configs.
        power: Exponent on the norms.
    """

    def __init__(
        self, *args: Any, tempearture: float = 20, power: float = 1.0, eps: float = 1e-6, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.tempearture = tempearture
        self.power = power
        self.eps = eps
        self.init_weights()

    def init_weights(self) -> None:
        """Small normal weights, no bias."""
        normal_init(self, mean=0, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C)`` -> similarities ``(N, out)``, times ``tempearture``."""
        weight = self.weight / (self.weight.norm(dim=1, keepdim=True).pow(self.power) + self.eps)
        x = x / (x.norm(dim=1, keepdim=True).pow(self.power) + self.eps)
        return F.linear(x * self.tempearture, weight, self.bias)


@MODELS.register_module()
class NormedConv2d(nn.Conv2d):
    """Convolution of inputs normalised over the channels with normalised weights.

    Args:
        tempearture: Factor on the similarities, spelt as in published configs.
        power: Exponent on the norms.
        norm_over_kernel: Normalise each filter as a whole, not position by position.
    """

    def __init__(
        self,
        *args: Any,
        tempearture: float = 20,
        power: float = 1.0,
        eps: float = 1e-6,
        norm_over_kernel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.tempearture = tempearture
        self.power = power
        self.eps = eps
        self.norm_over_kernel = norm_over_kernel

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> similarities, times ``tempearture``."""
        axes = (1, 2, 3) if self.norm_over_kernel else 1
        norm = torch.linalg.vector_norm(self.weight, dim=axes, keepdim=True)
        weight = self.weight / (norm.pow(self.power) + self.eps)
        x = x / (x.norm(dim=1, keepdim=True).pow(self.power) + self.eps)
        return self._conv_forward(x * self.tempearture, weight, self.bias)
