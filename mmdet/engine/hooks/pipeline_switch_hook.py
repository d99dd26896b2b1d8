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
        self._has_switched = self._restart_dataloader = False

    def before_train_epoch(self, runner: Any) -> None:
        loader = runner.train_dataloader
        if runner.epoch < self.switch_epoch or self._has_switched:
            if self._restart_dataloader:
                loader._DataLoader__initialized = True
            return
        runner.logger.info('Switch pipeline now!')
        loader.dataset.pipeline = Compose(self.switch_pipeline)
        self._restart_dataloader = restart_workers(loader)
        self._has_switched = True


def restart_workers(loader: Any) -> bool:
    """Let persistent workers, if there are any, end: they hold a copy of the dataset as it was when they started.

    The loader counts as not initialised until the hook is called again, as in MMDetection 3.x.
    """
    if getattr(loader, 'persistent_workers', False) is not True:
        return False
    loader._DataLoader__initialized = False
    loader._iterator = None
    return True
