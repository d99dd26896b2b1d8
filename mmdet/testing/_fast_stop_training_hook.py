from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from mmdet.registry import HOOKS


@HOOKS.register_module()
class FastStopTrainingHook(Hook):
    """Ends a trial run with an error after a few iterations.

    Args:
        by_epoch: Whether the run has epochs.
        save_ckpt: Whether its checkpoints are wanted: with epochs, whole ones are trained.
        stop_iter_or_epoch: Iterations, or epochs with ``by_epoch`` and ``save_ckpt``.

    Raises:
        RuntimeError: in the training loop, after so many.
    """

    def __init__(self, by_epoch: bool, save_ckpt: bool = False, stop_iter_or_epoch: int = 5) -> None:
        self.by_epoch, self.save_ckpt, self.stop_iter_or_epoch = by_epoch, save_ckpt, stop_iter_or_epoch

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        whole_epochs = self.by_epoch and self.save_ckpt
        if not whole_epochs and runner.iter + 1 >= self.stop_iter_or_epoch:
            self._stop('iterations')

    def after_train_epoch(self, runner: Any) -> None:
        if self.by_epoch and self.save_ckpt and runner.epoch + 1 >= self.stop_iter_or_epoch:
            self._stop('epochs')

    def _stop(self, unit: str) -> None:
        raise RuntimeError(
            f'the training ends after {self.stop_iter_or_epoch} {unit}, as FastStopTrainingHook was asked'
        )
