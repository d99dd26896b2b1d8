"""Moving averages of a model's weights, updated by a few kernels for all tensors at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.model import ExponentialMovingAverage as _ExponentialMovingAverage
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.registry import MODELS


@MODELS.register_module()
class ExponentialMovingAverage(_ExponentialMovingAverage):
    """``average = (1 - momentum) * average + momentum * weights``; see mmengine for the arguments."""

    _known_steps: int | None = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known_steps = None

    def current_momentum(self, steps: int) -> float:
        """The weight of the new values after ``steps`` updates."""
        return self.momentum

    def average(self, averages: list[Tensor], sources: list[Tensor], steps: int) -> None:
        """Move ``averages`` in place towards ``sources``."""
        torch._foreach_lerp_(averages, sources, self.current_momentum(steps))

    def update_parameters(self, model: nn.Module) -> None:
        """One step; the count is kept in Python too, so that a count on the device is not waited for."""
        if self._known_steps is None:
            self._known_steps = int(self.steps)
        steps, device_of = self._known_steps, next(iter(self.avg_parameters.values())).device
        sources = model.state_dict() if self.update_buffers else dict(model.named_parameters())
        with torch.no_grad():
            if steps == 0:
                for name, average in self.avg_parameters.items():
                    average.detach().copy_(sources[name].detach())
            elif steps % self.interval == 0:
                names = [n for n, average in self.avg_parameters.items() if average.dtype.is_floating_point]
                self.average(
                    [self.avg_parameters[n].detach() for n in names],
                    [sources[n].detach().to(device_of) for n in names],
                    steps,
                )
            if not self.update_buffers:
                pairs = list(zip(self.module.buffers(), model.buffers(), strict=True))
                if pairs:
                    torch._foreach_copy_([a for a, _ in pairs], [b for _, b in pairs])
        self.steps += 1
        self._known_steps = steps + 1


@MODELS.register_module()
class ExpMomentumEMA(ExponentialMovingAverage):
    """An average that starts fast: its momentum falls to ``momentum`` like ``exp(-(1 + steps) / gamma)``.

    The moving average of YOLOX (arXiv:2107.08430).

    Args:
        model: The model to average.
        momentum: Weight of the newest weights in the long run.
        gamma: Steps in which the start fades by a factor of e.
        interval: Steps between updates.
        device: Where the average lives.
        update_buffers: Average floating point buffers as well, instead of copying them.
    """

    def __init__(
        self,
        model: nn.Module,
        momentum: float = 0.0002,
        gamma: int = 2000,
        interval: int = 1,
        device: torch.device | None = None,
        update_buffers: bool = False,
    ) -> None:
        super().__init__(
            model=model, momentum=momentum, interval=interval, device=device, update_buffers=update_buffers
        )
        if gamma <= 0:
            raise UserValueError(f'gamma must be positive, not {gamma}')
        self.gamma = gamma

    def current_momentum(self, steps: int) -> float:
        return max((1 - self.momentum) * math.exp(-(1 + steps) / self.gamma) + self.momentum, self.momentum)

    def average(self, averages: list[Tensor], sources: list[Tensor], steps: int) -> None:
        momentum = self.current_momentum(steps)
        torch._foreach_mul_(averages, 1 - momentum)
        torch._foreach_add_(averages, sources, alpha=momentum)
