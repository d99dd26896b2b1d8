"""What stops a reader of annotation files, in a sentence that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmdet.errors import UserError, UserFileError, UserValueError


@contextmanager
def named_faults(dataset: Any) -> Iterator[None]:
    """Around the reading of a data set: errors of files, and of the readers of this package, name the file.

    A data set of others keeps its own errors, unless they are of files.

    Raises:
        UserError: in place of them.
    """
    source = str(dataset.ann_file)
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        path = source if error.filename is None else str(error.filename)
        missing = isinstance(error, FileNotFoundError)
        fault = 'does not exist' if missing else f'cannot be read: {error.strerror or error}'
        raise UserFileError(f'annotation file {path!r} {fault}') from error
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        if type(dataset).__module__.partition('.')[0] != 'mmdet':
            raise
        kind, text = type(dataset).__name__, ' '.join(str(error).split())
        raise UserValueError(f'annotation file {source!r} is not what {kind} reads: {text}') from error
