"""Stop at the first loss that is not a number, before it reaches the weights."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from mmdet.registry import HOOKS


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Turns the optimizer wrapper's check of every loss on; the training loop then writes the file for ``replay.py``.

    The check waits for the forward pass while the backward pass is queued, so the device is not idle. On by default;
    ``default_hooks=dict(nonfinite_loss=None)`` turns it off.
    """

    def before_train(self, runner: Any) -> None:
        wrapper = runner.optim_wrapper
        for each in wrapper.values() if hasattr(wrapper, 'optim_wrappers') else [wrapper]:
            each.stop_on_nonfinite_loss = True
