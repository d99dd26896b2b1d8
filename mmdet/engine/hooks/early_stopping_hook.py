"""Early stopping that an interruption does not reset."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EarlyStoppingHook as _EarlyStoppingHook

from mmdet.engine.hooks.checkpoint_hook import says_no_truth
from mmdet.engine.hooks.utils import require_number
from mmdet.registry import HOOKS


@HOOKS.register_module()
class EarlyStoppingHook(_EarlyStoppingHook):
    """Stops training when a metric no longer improves; see mmengine for the arguments.

    Its count and best score travel in the checkpoint. A ``monitor`` that validation does not give is an error, also
    without ``strict``.
    """

    priority = 'LOW'  # before CheckpointHook saves again after validation

    def before_train(self, runner: Any) -> None:
        state = runner.message_hub.runtime_info.get('early_stopping')
        if state:
            self.wait_count, self.best_score = int(state['wait_count']), float(state['best_score'])
            runner.train_loop.stop_training = bool(state['stopped'])

    def after_val_epoch(self, runner: Any, metrics: dict) -> None:
        require_number(self.monitor, metrics, 'EarlyStoppingHook: monitor')
        if self.monitor in metrics and says_no_truth(self.monitor, metrics[self.monitor]):
            return
        super().after_val_epoch(runner, metrics)
        state = dict(
            wait_count=self.wait_count, best_score=self.best_score, stopped=bool(runner.train_loop.stop_training)
        )
        runner.message_hub.update_info('early_stopping', state)
