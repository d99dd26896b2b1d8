"""What stands in the place of the objects that checkpoints mention: plain values, in one closed table."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np

MAX_EMPTY = 1 << 20  # rows of an array without elements
_MAX_KEY = 32  # values in one key of a dict, which Python visits whenever it compares or hashes the key
_PLAIN_DTYPE = re.compile(r'[|<>=]?(?:\?|b1|[biufc](?:1|2|4|8|16)|[SU]\d{1,5})')  # never objects, never structures


class Name(NamedTuple):
    """What a file says in the place of a function or a class."""

    path: str


class StandIn:
    """An inert object that takes the place of one whose name stands in a file."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise UnpicklingError(f'it gives {type(self).__name__.strip("_")} a state, which weights never need')

    def resolved(self) -> Any:
        """What the reader of the file gets instead."""
        return None

    def cost(self) -> int:
        """Bytes that it holds, or will hold when it is resolved."""
        return 0


def check_shape(shape: Any) -> tuple[int, ...]:
    """The shape of an array, if one of that shape costs little."""
    numbers = tuple(int(n) for n in shape)
    rows = 1
    for n in numbers:
        rows *= max(n, 1)
    if min(numbers, default=0) < 0 or (0 in numbers and rows > MAX_EMPTY):
        raise UnpicklingError('it has an array of an impossible shape')
    return numbers


def _bytes(raw: Any) -> bytes:
    if isinstance(raw, str):  # how Python 2 wrote them
        return raw.encode('latin1')
    if not isinstance(raw, (bytes, bytearray)):
        raise UnpicklingError('only arrays of numbers or text are allowed in a checkpoint')
    return bytes(raw)


class _DType(StandIn):
    """numpy.dtype"""

    __slots__ = ('order', 'spec')

    def __init__(self, spec: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(spec, str) or not _PLAIN_DTYPE.fullmatch(spec):
            shown = repr(spec[:20]) if isinstance(spec, str) else f'no text but a {type(spec).__name__}'
            raise UnpicklingError(f'an array of dtype {shown} is not allowed in a checkpoint')
        self.spec, self.order = spec.lstrip('|<>='), '='

    def __setstate__(self, state: Any) -> None:  # of (version, byte order, fields, ..., flags) only the order is read
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ('<', '>'):
            self.order = state[1]

    def real(self) -> np.dtype:
        return np.dtype(self.order + self.spec)


def _array_of(raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _DType):
        raise UnpicklingError('only arrays of numbers or text are allowed in a checkpoint')
    return np.frombuffer(_bytes(raw), dtype=dtype.real()).reshape(check_shape(shape), order=order).copy()  # type: ignore[call-overload]


class _Array(StandIn):
    """What numpy's _reconstruct returns: filled by its state"""

    __slots__ = ('value',)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _array_of(raw, dtype, shape, 'F' if fortran else 'C')

    def resolved(self) -> np.ndarray | None:
        return self.value

    def cost(self) -> int:
        return 0 if self.value is None else self.value.nbytes


def _reconstruct(subtype: Any, shape: Any, dtype: Any) -> _Array:
    if subtype != Name('numpy.ndarray'):
        raise UnpicklingError('only numpy.ndarray may be rebuilt from a checkpoint')
    return _Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _array_of(raw, dtype, shape, 'F' if order == 'F' else 'C')


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, _DType):
        raise UnpicklingError('only numbers or text are allowed as numpy scalars in a checkpoint')
    return np.frombuffer(_bytes(raw), dtype=dtype.real(), count=1)[0].item()


class _HistoryBuffer(StandIn):
    """mmengine.logging.HistoryBuffer"""

    __slots__ = ('state',)

    def __init__(self) -> None:
        self.state: dict = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def cost(self) -> int:
        return 8 * sum(column.cost() for column in self.state.values() if isinstance(column, _Array))

    def resolved(self) -> Any:
        from mmengine.logging import HistoryBuffer

        columns = [self.state.get(key) for key in ('_log_history', '_count_history')]
        arrays = [column.value if isinstance(column, _Array) else None for column in columns]
        values, counts = ([] if array is None else array.reshape(-1).tolist() for array in arrays)
        return HistoryBuffer(values, counts, int(self.state.get('max_length', 1000000)))


class _Namespace(StandIn):
    """argparse.Namespace: the arguments of a training, which files of DETR's kin keep and nobody needs"""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def _no_getattr(owner: Any = None, name: Any = None, default: Any = None) -> Any:
    if owner == Name(_ONE_CYCLE) and name in ('_annealing_cos', '_annealing_linear'):
        return _Annealing(name)
    return None


class _Annealing(StandIn):
    """One of the two pure functions that the state of OneCycleParamScheduler names"""

    __slots__ = ('name',)

    def __init__(self, name: str) -> None:
        self.name = name

    def resolved(self) -> Any:
        from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

        return getattr(OneCycleParamScheduler, self.name)


def _latin1(text: Any, encoding: Any = 'latin1') -> bytes:
    """How pickles of protocol 2 write bytes"""
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise UnpicklingError('only latin-1 text is turned into bytes')
    return text.encode('latin1')


def _ordered(pairs: Any = ()) -> OrderedDict:
    return OrderedDict(_pairs(pairs))


def _pairs(pairs: Any) -> list[tuple]:
    found = [(check_key(key), value) for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)]
    return found


def _set(items: Any = ()) -> set:
    return {check_key(item) for item in _plain_items(items)}


def _plain_items(items: Any) -> Any:
    if type(items) not in (list, tuple, set, frozenset):
        raise UnpicklingError(f'a set of a {type(items).__name__} is not allowed in a checkpoint')
    return items


_ONE_CYCLE = 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'
# Name -> what makes its stand-in, or None for a name that is only mentioned
TABLE: dict[str, Callable | None] = {
    'collections.OrderedDict': _ordered,
    'collections.defaultdict': lambda factory=None, pairs=(): dict(_pairs(pairs)),
    'collections.Counter': lambda pairs=(): dict(_pairs(pairs)),
    'builtins.set': _set,
    'builtins.frozenset': lambda items=(): frozenset(_set(items)),
    'builtins.list': lambda items=(): list(_plain_items(items)),
    'builtins.dict': lambda pairs=(): dict(_pairs(pairs)),
    'builtins.int': None,
    'builtins.bytearray': lambda raw='', encoding='latin1': bytes(_bytes(raw)),
    'builtins.bytes': lambda raw='', encoding='latin1': bytes(_bytes(raw)),
    'builtins.complex': lambda real=0.0, imag=0.0: complex(float(real), float(imag)),
    'numpy.dtype': _DType,
    'numpy.ndarray': None,
    'mmengine.logging.history_buffer.HistoryBuffer': _HistoryBuffer,
    'argparse.Namespace': _Namespace,
    _ONE_CYCLE: None,
    '_codecs.encode': _latin1,
    'builtins.getattr': _no_getattr,
    **{f'numpy.{core}.multiarray._reconstruct': _reconstruct for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray.scalar': _scalar for core in ('core', '_core')},
    **{f'numpy.{core}.numeric._frombuffer': _frombuffer for core in ('core', '_core')},
}

ATOMS = frozenset({str, bytes, bool, float, complex, type(None)})


def check_key(key: Any) -> Any:
    """The key of a dict or the element of a set, if it costs little to hash it.

    Raises:
        UnpicklingError: it is no number or text nor a small tuple of them. A tuple that holds another twice, which
            holds another twice, and so on, is hashed for ever.
    """
    left, waiting = _MAX_KEY, [key]
    while waiting:
        item = waiting.pop()
        left -= 1
        if type(item) is tuple and left > len(item):
            left -= len(item)
            waiting += item
        elif type(item) is int and -(2**63) <= item < 2**64:
            continue
        elif type(item) not in ATOMS or left < 0:
            raise UnpicklingError(f'a key that is, or holds, a {type(item).__name__} is not allowed in a checkpoint')
    return key
