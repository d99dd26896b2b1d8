"""Optimizer wrappers without waits for the device."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper as _AmpOptimWrapper
from mmengine.optim import OptimWrapper as _OptimWrapper

from mmdet.errors import UserError, UserTypeError, UserValueError
from mmdet.registry import OPTIM_WRAPPERS

_NOTHING = nullcontext()


class NonFiniteLossError(FloatingPointError, UserError):
    """A loss is NaN or infinite; the weights are those of before the step."""


class NonFiniteGradientError(FloatingPointError, UserError):
    """A gradient is NaN or infinite, though the loss is finite.

    Attributes:
        parameters: Those whose gradients are not finite; empty where that is not known.
        late: Whether the optimizer has been called since, as far as the host knows.
        count: The number of the backward pass, from 1, as the wrapper counts them.
        kept: Whether the weights are those of before the step.
    """

    def __init__(
        self, text: str, parameters: Sequence = (), *, late: bool = False, count: int = 0, kept: bool = True
    ) -> None:
        super().__init__(text)
        self.parameters, self.late, self.count, self.kept = list(parameters), late, count, kept


class SkippedStepsError(FloatingPointError, UserError):
    """The loss scaler of float16 skips every step."""


class _Deferred(_OptimWrapper):
    """What both wrappers do differently from mmengine's.

    Attributes:
        stop_on_nonfinite_loss: Look at every loss and at the norm of the gradients of every step. On the CPU that is
            done before the step. Elsewhere the norm is read together with the next loss, or by :meth:`check`, and
            nothing waits for it; a fused optimizer then leaves out that step and all after it.
        phase: What :meth:`update_params` does at the moment, for who watches from another thread.
    """

    stop_on_nonfinite_loss = False
    phase = ''
    _last_gradients: tuple[list, torch.Tensor | None, int] = ([], None, 0)
    _unread_norm: torch.Tensor | None = None
    _poisoned: torch.Tensor | None = None
    _plain_count = -1

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
            NonFiniteGradientError: the same, or at the call after it; see the attribute.
        """
        numbers = None
        if self.stop_on_nonfinite_loss:
            numbers = _Numbers(loss.detach(), self._unread_norm)
        self.phase = 'backward pass'
        self.backward(self.scale_loss(loss))
        if numbers is not None:
            value, norm = numbers.get()
            if not math.isfinite(norm):  # first, since such weights make every later loss NaN
                raise self._gradient_error(norm, late=True)
            self._unread_norm = None
            if not math.isfinite(value):
                raise NonFiniteLossError(f'the loss is {value}')
        if self.should_update():
            self.phase = 'optimizer step'
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))
        self.phase = ''

    def optim_context(self, model: torch.nn.Module) -> AbstractContextManager:
        return _NOTHING if self._accumulative_counts == 1 else _OptimWrapper.optim_context(self, model)

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        # mmengine divides by one, and the backward pass once more
        return loss if self._accumulative_counts == 1 else super().scale_loss(loss)

    def step(self, **kwargs: Any) -> None:
        if self.clip_grad_kwargs:
            self._clip_grad()
        elif self.stop_on_nonfinite_loss:
            parameters = self._with_gradients()
            if parameters:
                self._guard(parameters, *self._norm(parameters, 2.0))
        self.optimizer.step(**kwargs)

    def check(self) -> None:
        """Read what the device knows of the last step.

        Raises:
            NonFiniteGradientError: its gradients were not finite; the weights must not be saved.
        """
        norm, self._unread_norm = self._unread_norm, None
        if norm is not None and not math.isfinite(value := norm.item()):
            raise self._gradient_error(value, late=True)

    def finish(self) -> None:
        """:meth:`check` at the end of a run."""
        self.check()

    def _with_gradients(self) -> list:
        return [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]

    @torch.no_grad()
    def _clip_grad(self) -> None:
        parameters = self._with_gradients()
        if not parameters:
            return
        if self.clip_func is not torch.nn.utils.clip_grad_norm_:
            if self.stop_on_nonfinite_loss:  # before a clip by value makes an infinite one finite
                self._guard(parameters, *self._norm(parameters, 2.0))
            norm = self.clip_func(parameters, **self.clip_grad_kwargs)
            if norm is not None:  # clipping by value has none
                self.pending_norms.append(norm.detach())
            return
        settings = self.clip_grad_kwargs
        norm, norms = self._norm(parameters, float(settings.get('norm_type', 2.0)))
        self.pending_norms.append(norm)
        self._guard(parameters, norm, norms)
        if norms is None or settings.get('error_if_nonfinite'):
            self.clip_func(parameters, **settings)
        elif norm.device.type != 'cpu' or not norm.item() + 1e-6 <= settings['max_norm'] * (1 - 1e-6):
            # a norm that is known to be small enough would have the factor 1
            factor = torch.clamp(settings['max_norm'] / (norm + 1e-6), max=1.0)
            torch._foreach_mul_([p.grad for p in parameters], factor)

    @torch.no_grad()
    def _norm(self, parameters: list, kind: float) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The norm of all gradients, and those by parameter where all are dense tensors of one type and device."""
        gradients = [p.grad for p in parameters]
        if self._plain_count != len(gradients):
            alike = {(type(g), g.device, g.dtype, g.layout) for g in gradients}
            plain = len(alike) == 1 and alike.pop()[::3] == (torch.Tensor, torch.strided)
            self._plain_count = len(gradients) if plain else -1
        if self._plain_count < 0:
            return torch.nn.utils.get_total_norm([_values(g) for g in gradients], kind), None
        norms = torch.stack(torch._foreach_norm(gradients, kind))
        return torch.linalg.vector_norm(norms, kind), norms

    def _guard(self, parameters: list, norm: torch.Tensor, norms: torch.Tensor | None) -> None:
        """Keep gradients that are not finite from the weights, as far as it is possible without waiting."""
        if not self.stop_on_nonfinite_loss:
            return
        self._last_gradients = (parameters, norms, self._inner_count)
        if norm.device.type == 'cpu':
            if not math.isfinite(value := norm.item()):
                raise self._gradient_error(value)
            return
        self._read_later(norm)

    def _read_later(self, norm: torch.Tensor) -> None:
        self._unread_norm = norm
        fused = getattr(self.optimizer, '_step_supports_amp_scaling', False)
        if fused and norm.device.type in ('cuda', 'cpu'):  # its step looks at what a loss scaler would have found
            if self._poisoned is None:
                self._poisoned, self._one = norm.new_zeros(()).float(), norm.new_ones(()).float()
                self.optimizer.found_inf = self._poisoned
            torch._amp_foreach_non_finite_check_and_unscale_([norm.float()], self._poisoned, self._one)

    def _gradient_error(self, value: float, late: bool = False) -> NonFiniteGradientError:
        parameters, norms, count = self._last_gradients
        if norms is not None:
            finite = torch.isfinite(norms).tolist()
        else:
            finite = [p.grad is None or bool(torch.isfinite(_values(p.grad)).all()) for p in parameters]
        bad = [p for p, fine in zip(parameters, finite, strict=True) if not fine]
        kept = not late or self._poisoned is not None
        return NonFiniteGradientError(f'the gradient norm is {value}', bad, late=late, count=count, kept=kept)


def _values(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


class _Numbers:
    """A loss, and the norm of the gradients of the step before it, on the host.

    Reading them waits for what was queued before them, not for what came after.
    """

    def __init__(self, loss: torch.Tensor, norm: torch.Tensor | None) -> None:
        self.event, self.values = None, [loss] if norm is None else [loss, norm]
        if loss.is_cuda:
            queued = torch.stack([value.reshape(()).to(loss.device, torch.float32) for value in self.values])
            self.pinned = torch.empty(len(queued), dtype=torch.float32, pin_memory=True)
            self.pinned.copy_(queued, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def get(self) -> tuple[float, float]:
        """The loss and the norm; 0 for a norm that there is not."""
        if self.event is not None:
            self.event.synchronize()
            values = self.pinned.tolist()
        else:
            values = [value.item() for value in self.values]
        return values[0], values[1] if len(values) > 1 else 0.0


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

    Attributes:
        max_skipped_steps: So many steps in a row may be skipped by the loss scaler. It starts at 65536 and halves at
            each, so the ordinary number is under 20.
    """

    max_skipped_steps = 30
    _skipped = _most_skipped = 0
    _stepped = False

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **kwargs: Any,
    ) -> None:
        _OptimWrapper.__init__(self, **kwargs)
        self._overflows: list[torch.Tensor] = []  # of each step since the last check, on the device
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
        scaler = self.loss_scaler
        if not scaler.is_enabled():
            super().step(**kwargs)
            return
        if self.clip_grad_kwargs:
            scaler.unscale_(self.optimizer)
            self._clip_grad()
        scaler.step(self.optimizer, **kwargs)
        if self.stop_on_nonfinite_loss:
            self._overflows += scaler._found_inf_per_device(self.optimizer).values()
        scaler.update(self._scale_update_param)
        if len(self._overflows) >= 1000:
            self.check()

    def _guard(self, parameters: list, norm: torch.Tensor, norms: torch.Tensor | None) -> None:
        if not self.loss_scaler.is_enabled():  # else it skips such steps, as it should now and then
            super()._guard(parameters, norm, norms)

    def check(self) -> None:
        """Read what the device knows of the steps since the last look.

        Raises:
            NonFiniteGradientError: see :class:`OptimWrapper`.
            SkippedStepsError: the scaler has skipped ``max_skipped_steps`` in a row.
        """
        super().check()
        overflows, self._overflows = self._overflows, []
        for overflow in torch.stack(overflows).flatten().tolist() if overflows else ():
            self._skipped = self._skipped + 1 if overflow else 0
            self._stepped = self._stepped or not overflow
            self._most_skipped = max(self._most_skipped, self._skipped)
        if self._most_skipped >= self.max_skipped_steps:
            raise self._skipped_error(f'{self._most_skipped} optimizer steps in a row were')

    def finish(self) -> None:
        """:meth:`check` at the end of a run, which must have made a step at all.

        Raises:
            SkippedStepsError: it made none; a run that continues another may end with a few skipped steps.
        """
        self.check()
        fresh = self._inner_count <= self._skipped * self._accumulative_counts
        if self._skipped and not self._stepped and (fresh or self._skipped > 4):
            raise self._skipped_error(f'all {self._skipped} optimizer steps of this run were')

    def _skipped_error(self, what: str) -> SkippedStepsError:
        return SkippedStepsError(
            f'float16: {what} skipped, since gradients were not finite; the loss scale is now '
            f'{self.loss_scaler.get_scale():g} and the weights have not changed meanwhile. '
            "Train with optim_wrapper.dtype='bfloat16', or without --amp to find the reason."
        )

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast(self.device_type, dtype=self.cast_dtype):
            yield
