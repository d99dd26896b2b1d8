"""Times of iterations for the log, written when they are logged."""

from __future__ import annotations

import os
import time
from typing import Any

from mmengine.hooks import IterTimerHook as _IterTimerHook

from mmdet.engine.hooks.runtime_info_hook import extend_history, log_moments
from mmdet.registry import HOOKS

WAITING = 0.1
"""Share of the time above which waiting for data is worth a line in the log."""


@HOOKS.register_module()
class IterTimerHook(_IterTimerHook):
    """Time per iteration, time spent waiting for data and the time that is left.

    Where more than a tenth of the time goes into waiting for data, the log says so and what to raise.
    """

    t: float

    def before_train(self, runner: Any) -> None:
        super().before_train(runner)
        self.interval, self._epoch_length = log_moments(runner)
        self._waits: list[float] = []
        self._times: list[float] = []
        self._starts = 0.0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._waits.append(time.time() - self.t)
        if batch_idx == 0:
            self._starts += self._waits[-1]  # an epoch's first batch waits for workers to start

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        now = time.time()
        self._times.append(now - self.t)
        self.time_sec_tot += now - self.t
        self.t = now
        if (batch_idx + 1) % self.interval == 0 or (batch_idx + 1) % self._epoch_length == 0:
            self.flush(runner)

    def after_train_epoch(self, runner: Any) -> None:
        super().after_train_epoch(runner)
        self.flush(runner)

    def flush(self, runner: Any) -> None:
        """Bring the times since the last log into the message hub."""
        if not self._times:
            return
        hub = runner.message_hub
        extend_history(hub, 'train/data_time', self._waits, 2000)
        extend_history(hub, 'train/time', self._times, 2000)
        average = self.time_sec_tot / max(runner.iter - self.start_iter + 1, 1)
        hub.update_info('eta', average * (runner.max_iters - runner.iter - 1))
        self._report_waiting(runner)
        self._waits.clear()
        self._times.clear()
        self._starts = 0.0

    def _report_waiting(self, runner: Any) -> None:
        share = (sum(self._waits) - self._starts) / max(sum(self._times) - self._starts, 1e-9)
        if share > WAITING and len(self._times) > 1:
            loader = runner.train_dataloader
            runner.logger.info(
                f'waiting for data: {share:.0%} of the time. Raise train_dataloader.num_workers '
                f'(now {loader.num_workers}; {os.cpu_count()} processors) or make the pipeline cheaper'
            )
