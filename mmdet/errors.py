"""Errors whose message is written for the person who reads it.

A :class:`UserError` says what was wrong with an argument, a config or a file, so a tool prints its message without a
traceback. Each class is also the builtin error of its kind, and an AssertionError: MMDetection 3.x asserts on most
arguments, and a caller that catches that goes on working.
"""

from typing import Any


class UserError(AssertionError):
    """A mistake in what the caller gave. The base of all errors that explain themselves."""


class _OneSentence:
    """Takes the message out of what a data loader's worker hands on, which is its own traceback as text."""

    worker_traceback: str | None = None  # where the error came from, if it was a worker

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        text = args[0] if len(args) == 1 and isinstance(args[0], str) else ''
        if text.startswith('Caught ') and '\nOriginal Traceback' in text:
            name = f'{type(self).__module__}.{type(self).__qualname__}: '
            self.worker_traceback, args = text, (text.rpartition(name)[2].strip(),)
        super().__init__(*args, **kwargs)


class UserValueError(_OneSentence, ValueError, UserError):
    """A value that cannot be used."""


class UserTypeError(_OneSentence, TypeError, UserError):
    """A value of a type that cannot be used."""


class UserNotImplementedError(_OneSentence, NotImplementedError, UserError):
    """A choice of arguments that nothing is defined for."""


class UserKeyError(_OneSentence, KeyError, UserError):
    """A name that is not known."""

    __str__ = Exception.__str__  # KeyError would print the message as a quoted literal


class UserFileError(_OneSentence, FileNotFoundError, UserError):
    """A file or folder that is not there."""


class UserImportError(_OneSentence, ImportError, UserError):
    """A package or a name that cannot be imported, and what to do about it."""


class UserRuntimeError(_OneSentence, RuntimeError, UserError):
    """A call or a machine that does not fit."""
