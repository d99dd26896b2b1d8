"""Optimizer wrappers without waits for the device."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper as _AmpOptimWrapper
from mmengine.optim import OptimWrapper as _OptimWrapper

from mmdet.errors import UserError, UserTypeError, UserValueError
from mmdet.registry import OPTIM_WRAPPERS


class NonFiniteLossError(FloatingPointError, UserError):
    """A loss is NaN or infinite; the weights are those of before the step."""


class _Deferred(_OptimWrapper):
    """What both wrappers do differently from mmengine's."""

    stop_on_nonfinite_loss = False

    @property
    def pending_norms(self) -> deque:
        """Gradient norms on the device that no log has read yet."""
        return self.__dict__.setdefault('_pending_norms', deque(maxlen=1000))

    def update_params(
        self, loss: torch.Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None
    ) -> None:
        """Backward, and the optimizer's step when enough gradients are accumulated.

        Raises:
            NonFiniteLossError: before the step, when ``stop_on_nonfinite_loss`` is set.
        """
        finite = _Flag(loss.detach()) if self.stop_on_nonfinite_loss else None
        self.backward(self.scale_loss(loss))
        if finite is not None and not finite.get():
            raise NonFiniteLossError(f'the loss is {loss.item()}')
        if self.should_update():
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def _clip_grad(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        if parameters:
            norm = self.clip_func(parameters, **self.clip_grad_kwargs)
            if norm is not None:  # clipping by value has none
                self.pending_norms.append(norm.detach())


class _Flag:
    """Whether a loss is finite. Reading it waits for what was queued before it, not for what came after."""

    def __init__(self, loss: torch.Tensor) -> None:
        self.event, self.value = None, loss
        if loss.is_cuda:
            self.value = torch.empty((), dtype=torch.float32, pin_memory=True)
            self.value.copy_(loss.float(), non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def get(self) -> bool:
        if self.event is not None:
            self.event.synchronize()
        return math.isfinite(self.value.item())


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_Deferred):
    """mmengine's OptimWrapper; the norms of clipped gradients stay on the device until they are logged."""


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(_Deferred, _AmpOptimWrapper):
    """Automatic mixed precision on any device.

    Args:
        loss_scale: 'dynamic', a constant, or arguments of ``torch.amp.GradScaler``. Only float16 is scaled: bfloat16
            has the range of float32.
        dtype: 'float16', 'bfloat16', a ``torch.dtype``, or None for the device's default.
        use_fsdp: Take the scaler for sharded gradients.
        kwargs: Those of :class:`OptimWrapper`.
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **kwargs: Any,
    ) -> None:
        _OptimWrapper.__init__(self, **kwargs)
        if isinstance(dtype, str) and dtype not in self.valid_dtypes:
            raise UserValueError(f'dtype must be one of {", ".join(self.valid_dtypes)}, not {dtype!r}')
        self.cast_dtype: torch.dtype | None = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        self.device_type = torch.device(get_device()).type
        used = self.cast_dtype or torch.get_autocast_dtype(self.device_type)
        self._scale_update_param = None
        if loss_scale == 'dynamic':
            settings = {}
        elif isinstance(loss_scale, dict):
            settings = dict(loss_scale)
        elif isinstance(loss_scale, (int, float)) and not isinstance(loss_scale, bool):
            settings = dict(init_scale=float(loss_scale))
            self._scale_update_param = float(loss_scale)
        else:
            raise UserTypeError(f"loss_scale must be 'dynamic', a number or a dict, not {loss_scale!r}")
        settings['enabled'] = settings.get('enabled', True) and used is torch.float16
        if use_fsdp:
            from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

            self.loss_scaler: torch.amp.GradScaler = ShardedGradScaler(self.device_type, **settings)
        else:
            self.loss_scaler = torch.amp.GradScaler(self.device_type, **settings)

    def step(self, **kwargs: Any) -> None:
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self._scale_update_param)

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        with _OptimWrapper.optim_context(self, model), torch.autocast(self.device_type, dtype=self.cast_dtype):
            yield
