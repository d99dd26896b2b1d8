"""Tells the model the epoch."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmdet.registry import HOOKS


@HOOKS.register_module()
class SetEpochInfoHook(Hook):
    """Calls ``model.set_epoch(epoch)`` before each epoch."""

    def before_train_epoch(self, runner: Any) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.set_epoch(runner.epoch)
