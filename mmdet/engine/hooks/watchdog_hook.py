"""Says where training hangs, and ends it there."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log

from mmdet.engine.rescue import save_last_state, where_it_is
from mmdet.errors import UserValueError
from mmdet.registry import HOOKS
from mmdet.utils.processes import timeout_of

EXIT_CODE = 124
"""Of a process that the watchdog ends, as of ``timeout`` in a shell."""


@HOOKS.register_module()
class WatchdogHook(Hook):
    """Reports rank, iteration and last phase when a step takes too long, once per such step, with all stacks.

    On by default with several ranks, where it ends the process, with code 124, before the process group's timeout
    (``env_cfg.dist_cfg.timeout``) is over; rank 0 saves first, where that is possible.

    Args:
        timeout: Seconds that a phase may take. None: 0.8 of the process group's timeout on rank 0, which has a
            checkpoint to write, 0.9 on others; ten minutes in a single process.
        end: Whether to end the process. None: with several ranks and no ``timeout`` of your own.
    """

    priority = 'VERY_HIGH'

    def __init__(self, timeout: float | None = None, end: bool | None = None) -> None:
        if timeout is not None and timeout <= 0:
            raise UserValueError(f'timeout must be positive, not {timeout}')
        self.timeout, self.end = timeout, end
        self._limit, self._ends = timeout or 600.0, bool(end)
        self._since, self._reported = 0.0, False
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def _enter(self, runner: Any, *_: Any, **__: Any) -> None:
        self._since, self._reported = time.monotonic(), False

    before_train_iter = after_train_iter = before_val_iter = after_val_epoch = before_test_iter = _enter
    before_save_checkpoint = _enter

    def before_run(self, runner: Any) -> None:
        self._start(runner)

    def before_train(self, runner: Any) -> None:
        self._start(runner)

    def before_val(self, runner: Any) -> None:
        self._start(runner)

    def before_test(self, runner: Any) -> None:
        self._start(runner)

    def after_run(self, runner: Any) -> None:
        self._over.set()

    def after_train(self, runner: Any) -> None:
        self._over.set()

    def _start(self, runner: Any) -> None:
        self._enter(runner)
        if self._thread is not None and self._thread.is_alive() and not self._over.is_set():
            return
        several = getattr(runner, 'world_size', 1) > 1
        if self.timeout is None and several:
            self._limit = timeout_of(runner.cfg.get('env_cfg', {}).get('dist_cfg')) * (0.8 if runner.rank == 0 else 0.9)
        self._ends = self.end if self.end is not None else several and self.timeout is None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(runner, self._over), name='watchdog', daemon=True)
        self._thread.start()

    def _watch(self, runner: Any, over: threading.Event) -> None:
        while not over.wait(min(self._limit / 20, 10.0)):
            waited = time.monotonic() - self._since
            if waited > self._limit and not self._reported:
                self._reported = True
                print_log(
                    f'{where_it_is(runner)} for {waited:.1f} s; the limit is {self._limit:g} s. '
                    'Stacks of all threads are on stderr.',
                    'current',
                    logging.ERROR,
                )
                faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
                if self._ends:
                    self._end_process(runner)

    def _end_process(self, runner: Any) -> None:
        print_log(f'Rank {runner.rank} ends. {save_last_state(runner)}', 'current', logging.ERROR)
        for handler in logging.getLogger().handlers + getattr(runner.logger, 'handlers', []):
            handler.flush()
        os._exit(EXIT_CODE)
