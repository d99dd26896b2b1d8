"""Stop at the first loss or gradient that is not a number, before it reaches the weights."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from mmdet.engine.finite import wrappers_of
from mmdet.registry import HOOKS


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Turns the optimizer wrapper's check of every loss and gradient on.

    The training loop then writes the file for ``replay.py``. The check of a loss waits for the forward pass while the
    backward pass is queued, so the device is not idle; the norm of the gradients is read with the next loss. On by
    default; ``default_hooks=dict(nonfinite_loss=None)`` turns it off. Float16 leaves gradients to its loss scaler, and
    stops when that skips 30 steps in a row, or every step of a run.
    """

    def before_train(self, runner: Any) -> None:
        for each in wrappers_of(runner.optim_wrapper):
            each.stop_on_nonfinite_loss = True
