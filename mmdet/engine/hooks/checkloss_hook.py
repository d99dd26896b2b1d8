"""A periodic check of the loss."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook

from mmdet.engine.optimizers.optim_wrapper import NonFiniteLossError
from mmdet.registry import HOOKS


@HOOKS.register_module()
class CheckInvalidLossHook(Hook):
    """Stops when the total loss is NaN or infinite at every ``interval``-th iteration.

    :class:`NonFiniteLossHook`, which is on by default, stops at the first such iteration, before the weights change.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if outputs and self.every_n_train_iters(runner, self.interval):
            loss = torch.as_tensor(outputs['loss'])
            if not torch.isfinite(loss).all():
                raise NonFiniteLossError(f'The loss is {loss.item()} at iteration {runner.iter + 1}.')
