"""Errors whose message is written for the person who reads it.

A :class:`UserError` says what was wrong with an argument, a config or a file, so a tool prints its message without a
traceback. Each class is also the builtin error of its kind, and an AssertionError: MMDetection 3.x asserts on most
arguments, and a caller that catches that goes on working.
"""


class UserError(AssertionError):
    """A mistake in what the caller gave. The base of all errors that explain themselves."""


class UserValueError(ValueError, UserError):
    """A value that cannot be used."""


class UserTypeError(TypeError, UserError):
    """A value of a type that cannot be used."""


class UserNotImplementedError(NotImplementedError, UserError):
    """A choice of arguments that nothing is defined for."""


class UserKeyError(KeyError, UserError):
    """A name that is not known."""

    __str__ = Exception.__str__  # KeyError would print the message as a quoted literal


class UserFileError(FileNotFoundError, UserError):
    """A file or folder that is not there."""


class UserImportError(ImportError, UserError):
    """A package or a name that cannot be imported, and what to do about it."""


class UserRuntimeError(RuntimeError, UserError):
    """A call or a machine that does not fit."""
