"""Says where training hangs."""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import time
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log

from mmdet.errors import UserValueError
from mmdet.registry import HOOKS


@HOOKS.register_module()
class WatchdogHook(Hook):
    """Reports rank, iteration and last phase when a step takes too long, once per such step, with all stacks.

    Phases: 'loading data', 'training step', 'validation'. Nothing is killed.

    Args:
        timeout: Seconds that a phase may take.
    """

    priority = 'VERY_HIGH'

    def __init__(self, timeout: float = 600.0) -> None:
        if timeout <= 0:
            raise UserValueError(f'timeout must be positive, not {timeout}')
        self.timeout = timeout
        self._phase, self._since, self._iter, self._rank = '', 0.0, 0, 0
        self._reported = False
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def _enter(self, runner: Any, phase: str) -> None:
        self._phase, self._since, self._reported = phase, time.monotonic(), False
        self._iter, self._rank = runner.iter, runner.rank

    def before_train(self, runner: Any) -> None:
        self._enter(runner, 'loading data')
        self._end.clear()
        self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)
        self._thread.start()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._enter(runner, 'training step')

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        self._enter(runner, 'loading data')

    def before_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._enter(runner, 'validation')

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self._enter(runner, 'loading data')

    def after_train(self, runner: Any) -> None:
        self._end.set()

    def _watch(self) -> None:
        while not self._end.wait(min(self.timeout / 4, 10.0)):
            waited = time.monotonic() - self._since
            if waited > self.timeout and not self._reported:
                self._reported = True
                print_log(
                    f'Rank {self._rank} has been in the phase {self._phase!r} of iteration {self._iter + 1} for '
                    f'{waited:.1f} s; the limit is {self.timeout:g} s. Stacks of all threads are on stderr.',
                    'current',
                    logging.ERROR,
                )
                faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
