"""Stand-ins for what checkpoints of mmengine and of older toolboxes mention, in one closed table.

No function or class of numpy, mmengine or Python is ever handed to an unpickler, and nothing falls back to full pickle.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np
from torch import serialization

_PLAIN_DTYPE = re.compile(r'[|<>=]?(?:\?|b1|[biufc](?:1|2|4|8|16)|[SU]\d{1,5})')  # never objects, never structures


class StandIn:
    """An inert object that takes the place of one whose name stands in a file."""

    __slots__ = ()

    def resolved(self) -> Any:
        """What the reader of the file gets instead."""
        return None


class _DType(StandIn):
    """numpy.dtype"""

    __slots__ = ('order', 'spec')

    def __init__(self, spec: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(spec, str) or not _PLAIN_DTYPE.fullmatch(spec):
            raise UnpicklingError(f'an array of dtype {spec!r} is not allowed in a checkpoint')
        self.spec, self.order = spec.lstrip('|<>='), '='

    def __setstate__(self, state: Any) -> None:  # of (version, byte order, fields, ..., flags) only the order is read
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ('<', '>'):
            self.order = state[1]

    def real(self) -> np.dtype:
        return np.dtype(self.order + self.spec)


class _NDArray(StandIn):
    """numpy.ndarray, as the argument of numpy's _reconstruct"""

    __slots__ = ()


class _Array(StandIn):
    """What numpy's _reconstruct returns: filled by its state"""

    __slots__ = ('value',)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _DType) or not isinstance(raw, bytes):
            raise UnpicklingError('only arrays of numbers or text are allowed in a checkpoint')
        flat = np.frombuffer(raw, dtype=dtype.real())
        self.value = flat.reshape(tuple(int(n) for n in shape), order='F' if fortran else 'C').copy()

    def resolved(self) -> np.ndarray | None:
        return self.value


def _reconstruct(subtype: Any, shape: Any, dtype: Any) -> _Array:
    if subtype is not _NDArray:
        raise UnpicklingError('only numpy.ndarray may be rebuilt from a checkpoint')
    return _Array()


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes):
        raise UnpicklingError('only numbers or text are allowed as numpy scalars in a checkpoint')
    return np.frombuffer(raw, dtype=dtype.real(), count=1)[0].item()


class _HistoryBuffer(StandIn):
    """mmengine.logging.HistoryBuffer"""

    __slots__ = ('state',)

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def resolved(self) -> Any:
        from mmengine.logging import HistoryBuffer

        columns = [self.state.get(key) for key in ('_log_history', '_count_history')]
        values, counts = ((c.value if isinstance(c, _Array) else None) for c in columns)
        values, counts = ([] if column is None else column.tolist() for column in (values, counts))
        return HistoryBuffer(values, counts, int(self.state.get('max_length', 1000000)))


class _OneCycle(StandIn):
    """mmengine's OneCycleParamScheduler, of which a state names one of two pure functions"""

    __slots__ = ()


def _no_getattr(owner: Any = None, name: Any = None, default: Any = None) -> Any:
    if owner is _OneCycle and name in ('_annealing_cos', '_annealing_linear'):
        from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

        return getattr(OneCycleParamScheduler, name)
    return None


def _latin1(text: Any, encoding: Any = 'latin1') -> bytes:
    """How pickles of protocol 2 write bytes"""
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise UnpicklingError('only latin-1 text is turned into bytes')
    return text.encode('latin1')


TABLE: list[tuple[Callable, str]] = [
    (_DType, 'numpy.dtype'),
    (_NDArray, 'numpy.ndarray'),
    (_Array, f'{__name__}._Array'),
    (_HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_OneCycle, 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'),
    (_latin1, '_codecs.encode'),
    (_no_getattr, 'builtins.getattr'),
    (_no_getattr, '__builtin__.getattr'),
    *((_reconstruct, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    *((_scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
]
_LOCK = threading.Lock()


@contextlib.contextmanager
def only_table() -> Iterator[None]:
    """torch's weights-only unpickler with exactly this table, whatever other libraries have added to its own."""
    with _LOCK:
        before = serialization.get_safe_globals()
        serialization.clear_safe_globals()
        try:
            serialization.add_safe_globals([*TABLE])
            yield
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(before)


class _TableUnpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, more: dict[str, type[StandIn]]) -> None:
        super().__init__(file, encoding='latin1')
        self.table = {name: stand_in for stand_in, name in TABLE} | more

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.table[f'{module}.{name}']
        except KeyError:
            raise UnpicklingError(f'it asks for {module}.{name}, which weights never need') from None


def read_pickle(file: BinaryIO, more: dict[str, type[StandIn]] | None = None) -> Any:
    """A plain pickle of arrays, such as detectron2's: every name is looked up in the closed table.

    Args:
        more: Stand-ins for further names.

    Raises:
        UnpicklingError: the file asks for another name. A damaged pickle may raise nearly anything.
    """
    return resolve(_TableUnpickler(file, more or {}).load())


def resolve(value: Any) -> Any:
    """Real objects for the stand-ins of a file, in place where the container allows it."""
    return _resolve(value, set())


def _resolve(value: Any, seen: set[int]) -> Any:
    if isinstance(value, StandIn):
        return _resolve(value.resolved(), seen)
    if isinstance(value, type) and issubclass(value, StandIn):
        return None
    if id(value) in seen:
        return value
    if isinstance(value, dict):
        seen.add(id(value))
        for key in list(value):
            value[key] = _resolve(value[key], seen)
    elif isinstance(value, list):
        seen.add(id(value))
        value[:] = [_resolve(item, seen) for item in value]
    elif type(value) is tuple:
        return tuple(_resolve(item, seen) for item in value)
    return value
