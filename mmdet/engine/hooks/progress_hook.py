"""A progress bar with the time that is left."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmdet.registry import HOOKS


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 0


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this, where bars are widgets."""
    shell = sys.modules.get('IPython')
    kernel = shell.get_ipython() if shell is not None and hasattr(shell, 'get_ipython') else None
    return type(kernel).__name__ == 'ZMQInteractiveShell'


@HOOKS.register_module()
class ProgressHook(Hook):
    """A bar below the log lines while training, validating and testing. Nothing where no terminal is looking."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._bar: Any = None
        self._inner: Any = None
        self._redirected: list[tuple[logging.StreamHandler, Any]] = []

    @property
    def enabled(self) -> bool:
        """Whether somebody watches: a terminal or a notebook, and the first process."""
        return is_main_process() and (sys.stderr.isatty() or in_notebook())

    def _open(self, total: int | None, done: int, label: str, position: int) -> Any:
        if in_notebook():
            from tqdm.auto import tqdm

            return tqdm(total=total, initial=done, desc=label, leave=False, mininterval=0.5)
        from tqdm import tqdm

        # terminals that do not tell their width (some of containers and CI) would get an empty bar
        width = dict(dynamic_ncols=True) if _width() else dict(ncols=100, nrows=24)
        return tqdm(
            total=total,
            initial=done,
            desc=label,
            position=position,
            leave=False,
            mininterval=0.5,
            file=sys.stderr,
            **width,
        )

    def _keep_below_log(self, runner: Any) -> None:
        """Log lines go above the bar."""
        from tqdm import tqdm

        class AboveBar:
            def __init__(self, stream: Any) -> None:
                self.stream = stream

            def write(self, text: str) -> int:
                with tqdm.external_write_mode(file=self.stream):
                    return self.stream.write(text)

            def flush(self) -> None:
                self.stream.flush()

        for handler in runner.logger.handlers:
            if type(handler) is logging.StreamHandler and not self._redirected:
                self._redirected.append((handler, handler.stream))
                handler.setStream(AboveBar(handler.stream))

    def before_train(self, runner: Any) -> None:
        if self.enabled:
            self._keep_below_log(runner)
            self._bar = self._open(runner.max_iters, runner.iter, 'train', 0)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if self._bar is None:
            return
        history = runner.message_hub.log_scalars.get('train/loss')
        if history is not None and len(history.data[0]):
            self._bar.set_postfix_str(
                f'epoch {runner.epoch + 1}/{runner.max_epochs}, loss {history.current():.4g}', False
            )
        self._bar.update(runner.iter + 1 - self._bar.n)

    def after_train(self, runner: Any) -> None:
        self._close()

    def before_val_epoch(self, runner: Any) -> None:
        if self.enabled:
            self._keep_below_log(runner)
            self._inner = self._open(len(runner.val_dataloader), 0, 'val', 1 if self._bar is not None else 0)

    def before_test_epoch(self, runner: Any) -> None:
        if self.enabled:
            self._keep_below_log(runner)
            self._inner = self._open(len(runner.test_dataloader), 0, 'test', 0)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._inner is not None:
            self._inner.update(1)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    after_test_epoch = after_val_epoch

    def after_run(self, runner: Any) -> None:
        self._close()

    def _close(self) -> None:
        for bar in (self._inner, self._bar):
            if bar is not None:
                bar.close()
        self._bar = self._inner = None
        for handler, stream in self._redirected:
            handler.setStream(stream)
        self._redirected.clear()
