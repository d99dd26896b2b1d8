"""What a person sees of a run: a few lines on the console, everything in the log file.

``console = 'quiet'`` in a config, which the tools set unless ``--verbose`` is given, takes effect when the runner makes
its logger. Records go on to the log file as ever; to the console go those that :func:`say` marks, warnings and errors,
each text once.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MODES = ('quiet', 'full')
NOT_FOR_USERS = re.compile(
    r'deprecated in (the )?future|will be deprecated'  # by libraries, for their authors
    r'|is skipped since bypass_duplicate=True'  # which the config asks for, for each shared layer
)


class OnlyMarked(logging.Filter):
    """Lets through what is meant for the console, and each text of warnings and errors once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, 'console', False):
            return True
        text = record.getMessage()
        if record.levelno < logging.WARNING or text in self._seen or NOT_FOR_USERS.search(text):
            return False
        self._seen.add(text)
        return True


class Plain(logging.Formatter):
    """Text alone, with the level before warnings and errors."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if record.levelno < logging.WARNING else f'{record.levelname.lower()}: {text}'


def is_quiet(logger: Any) -> bool:
    """Whether :func:`make_quiet` was called for a logger."""
    return any(isinstance(each, OnlyMarked) for handler in logger.handlers for each in handler.filters)


def make_quiet(logger: Any) -> None:
    """Leave marked records and warnings on the console; the log file gets the warnings of libraries, too."""
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.addFilter(OnlyMarked())
            handler.setFormatter(Plain())
    warnings.showwarning = _Warnings(logger)


@contextmanager
def quiet_for_now() -> Iterator[None]:
    """The current logger as :func:`make_quiet` makes one, for the while: before there is a runner with a log."""
    from mmengine.logging import MMLogger

    marked = OnlyMarked()
    handlers = [each for each in MMLogger.get_current_instance().handlers if type(each) is logging.StreamHandler]
    for handler in handlers:
        handler.addFilter(marked)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(marked)


class _Warnings:
    """Warnings of libraries: whole in the log file, and each text once."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.seen: set[tuple[type, str]] = set()

    def __call__(
        self, message: Any, category: type, filename: str, lineno: int, file: Any = None, line: str | None = None
    ) -> None:
        key = (category, str(message))
        if key not in self.seen:
            self.seen.add(key)
            self.logger.info(f'{filename}:{lineno}: {category.__name__}: {message}')


def say(logger: Any, text: str) -> None:
    """Log a line that a quiet console shows, too."""
    logger.info(text, extra=dict(console=True))


def add_loggers(cfg: Any, names: list[str]) -> None:
    """Let the visualizer of a config write to trackers of experiments, too.

    Args:
        names: Of 'tensorboard', 'wandb', 'mlflow' and 'clearml'.
    """
    backends = list(cfg.get('visualizer', {}).get('vis_backends') or [dict(type='LocalVisBackend')])
    for name in names:
        if all(backend.get('type') != LOGGERS[name] for backend in backends):
            backends.append(dict(type=LOGGERS[name]))
    cfg.setdefault('visualizer', dict(type='DetLocalVisualizer', name='visualizer'))
    cfg.visualizer.vis_backends = backends


LOGGERS = {
    'tensorboard': 'TensorboardVisBackend',
    'wandb': 'WandbVisBackend',
    'mlflow': 'MLflowVisBackend',
    'clearml': 'ClearMLVisBackend',
}
