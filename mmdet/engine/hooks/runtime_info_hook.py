"""Losses for the log, without waiting for the device at every iteration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from mmengine.optim import ReduceOnPlateauParamScheduler

from mmdet.engine.finite import check_gradients, wrappers_of
from mmdet.engine.hooks.utils import require_number
from mmdet.registry import HOOKS


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """Writes losses, learning rates and progress into the message hub.

    Losses stay on the device until they are logged; then one copy brings all of them. Histories are bounded, so the
    cost of an iteration and the size of a checkpoint do not grow with the length of the run.

    Args:
        max_history: Values of each scalar to keep; averages over more iterations than that use the last ones.
    """

    def __init__(self, max_history: int = 2000) -> None:
        self.max_history = max_history
        self.interval, self._epoch_length = 50, 1
        self._losses: list[tuple[tuple[str, ...], torch.Tensor]] = []

    def before_train(self, runner: Any) -> None:
        super().before_train(runner)
        self.interval, self._epoch_length = log_moments(runner)
        self._losses.clear()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        runner.message_hub.update_info('iter', runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if outputs:
            self._losses.append((tuple(outputs), _stack(list(outputs.values()))))
        if (batch_idx + 1) % self.interval == 0 or (batch_idx + 1) % self._epoch_length == 0:
            self.flush(runner)

    def after_train_epoch(self, runner: Any) -> None:
        self.flush(runner)

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        super().after_val_epoch(runner, metrics)
        schedulers = getattr(runner, 'param_schedulers', None) or ()
        groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
        for scheduler in (each for group in groups if isinstance(group, list) for each in group):
            if isinstance(scheduler, ReduceOnPlateauParamScheduler):  # which would fail without a word on what there is
                require_number(scheduler.monitor, metrics or {}, f'{type(scheduler).__name__}: monitor')

    def flush(self, runner: Any, rates: bool = True) -> None:
        """Bring what waits on the device into the message hub.

        Args:
            rates: Note the learning rates too. A save does not, so that where it falls is not seen in the histories.
        """
        if not self._losses:
            return
        hub = runner.message_hub
        check_gradients(runner)
        for name, values in runner.optim_wrapper.get_lr().items() if rates else ():
            hub.update_scalar(f'train/{name}', values[0])
        for name, norms in _take_norms(runner.optim_wrapper):
            extend_history(hub, f'train/{name}', torch.stack(norms).tolist(), self.max_history)
        pending, self._losses = self._losses, []
        start = 0
        for end in range(1, len(pending) + 1):  # runs of iterations with the same losses
            if end == len(pending) or pending[end][0] != pending[start][0]:
                table = torch.stack([values for _, values in pending[start:end]]).T.tolist()
                for key, column in zip(pending[start][0], table, strict=True):
                    extend_history(hub, f'train/{key}', column, self.max_history)
                start = end
        for buffer in hub.log_scalars.values():
            buffer.max_length = self.max_history


@torch.no_grad()
def _stack(values: list) -> torch.Tensor:
    try:
        stacked = torch.stack(values)
        if stacked.dim() == 1:
            return stacked
    except (TypeError, RuntimeError):  # numbers, several devices or shapes
        pass
    tensors = [torch.as_tensor(value) for value in values]
    return torch.stack([tensor.float().mean().to(tensors[0].device) for tensor in tensors])


def log_moments(runner: Any) -> tuple[int, int]:
    """After how many iterations something is logged, and the length of an epoch."""
    intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
    return math.gcd(*intervals) if intervals else 50, max(len(runner.train_dataloader), 1)


def extend_history(hub: Any, key: str, values: list[float], max_history: int) -> None:
    """Append many values at once; one ``update_scalar`` each would copy the history as often."""
    hub.update_scalar(key, values[-1])  # also checks the name and marks it for resuming
    history, counts = hub.log_scalars[key].data
    history = np.concatenate([history[:-1], values])[-max_history:]
    counts = np.concatenate([counts[:-1], np.ones(len(values))])[-max_history:]
    hub.log_scalars[key] = HistoryBuffer(history, counts, max_history)


def _take_norms(optim_wrapper: Any) -> list[tuple[str, list[torch.Tensor]]]:
    taken = []
    for wrapper in wrappers_of(optim_wrapper):
        norms = getattr(wrapper, 'pending_norms', None)
        if norms:
            taken.append((wrapper.grad_name, list(norms)))
            norms.clear()
    return taken
