"""Another training pipeline for the last epochs."""

from __future__ import annotations

from typing import Any

from mmengine.dataset import Compose
from mmengine.hooks import Hook

from mmdet.registry import HOOKS


@HOOKS.register_module()
class PipelineSwitchHook(Hook):
    """Replaces the training pipeline from epoch ``switch_epoch`` (counted from 0) on.

    Args:
        switch_pipeline: The transforms from then on.
    """

    def __init__(self, switch_epoch: int, switch_pipeline: list[dict]) -> None:
        self.switch_epoch, self.switch_pipeline = switch_epoch, switch_pipeline
        self._has_switched = False

    def before_train_epoch(self, runner: Any) -> None:
        if runner.epoch < self.switch_epoch or self._has_switched:
            return
        runner.logger.info('Switch pipeline now!')
        loader = runner.train_dataloader
        loader.dataset.pipeline = Compose(self.switch_pipeline)
        restart_workers(loader)
        self._has_switched = True


def restart_workers(loader: Any) -> None:
    """Let persistent workers end: they hold a copy of the dataset as it was when they started."""
    if getattr(loader, 'persistent_workers', False):
        loader._iterator = None
