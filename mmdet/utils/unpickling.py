"""A pickle machine that can make plain values only: the files of checkpoints and results are read by nothing else.

Pickle is a small language. This reader of it knows numbers, text, containers and the names of one closed table, whose
functions make stand-ins. No function or class is ever on its stack, so none can be called, kept or changed by a file,
and what a file may cost is bounded by its size.
"""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import SEEK_END, SEEK_SET
from pickle import UnpicklingError
from struct import Struct
from typing import Any, BinaryIO

import numpy as np

from mmdet.utils.stand_ins import ATOMS, TABLE, Name, StandIn, check_key

MAX_CONTAINERS = 50_000_000  # lists, dicts and tuples of one file: the results of 100,000 pictures
MAX_DEPTH = 100
# Bytes that calls in a file may make: a few bytes can ask for one more copy of what the file holds once
COPIES, MORE_COPIES = 16, 64 << 20  # times the size of the file, and beyond it
_MAX_NUMBER = 1024  # bytes of one integer


# --------------------------------------------------------------------------------------------------------------------
# The machine
class Machine:
    """Runs one pickle, of protocol 0 to 5.

    Args:
        table: What makes the stand-in of each name that the file may mention, and None for one that is only mentioned.
        values: Harmless values by name, such as ``torch.float32``.
        persistent: Gives the object of a persistent id.
    """

    def __init__(
        self,
        file: BinaryIO,
        table: Mapping[str, Callable | None] = TABLE,
        values: Mapping[str, Any] | None = None,
        persistent: Callable[[Any], Any] | None = None,
        max_containers: int = MAX_CONTAINERS,
    ) -> None:
        self.file, self.table, self.values, self.persistent = file, table, values or {}, persistent
        here = file.tell()
        self.size = file.seek(0, SEEK_END)
        file.seek(here, SEEK_SET)
        self.stack: list[Any] = []
        self.outer: list[list] = []
        self.memo: dict[int, Any] = {}
        self.containers_left = max_containers
        self.bytes_left = MORE_COPIES + COPIES * self.size

    def run(self) -> Any:
        """The value, with its stand-ins; see :func:`settle`.

        Raises:
            UnpicklingError: for anything that is not allowed. A damaged pickle may raise nearly anything.
        """
        read, operations = self.file.read, OPERATIONS
        while True:
            code = read(1)
            if code == b'.':
                return self.stack.pop()
            operation = operations.get(code)
            if operation is None:
                raise UnpicklingError(f'it is damaged or not a file of weights or results (operation {code!r})')
            operation(self)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, which must be there."""
        data = self.file.read(count) if 0 <= count <= self.size else b''
        if len(data) != count:
            raise UnpicklingError('it is cut short')
        return data

    def line(self) -> bytes:
        """The rest of the line, without its end."""
        line = self.file.readline(self.size)
        if line[-1:] != b'\n':
            raise UnpicklingError('it is cut short')
        return line[:-1]

    def made(self, value: Any) -> None:
        """Push a container, as long as there are not too many."""
        self.containers_left -= 1
        if self.containers_left < 0:
            raise UnpicklingError('it holds more lists, dicts and tuples than a file of weights or results')
        self.stack.append(value)

    def charge(self, value: Any) -> None:
        """Count the bytes of what a call has made."""
        if isinstance(value, (str, bytes, np.ndarray)):
            self.bytes_left -= value.nbytes if isinstance(value, np.ndarray) else len(value)
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            self.bytes_left -= (8 if isinstance(value, (list, tuple)) else 64) * len(value)
        elif isinstance(value, StandIn):
            self.bytes_left -= value.cost()
        if self.bytes_left < 0:
            raise UnpicklingError('it copies what it holds far more often than files of weights or results do')

    def since_mark(self) -> list:
        """Take off the stack what was pushed since the last mark."""
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def named(self, module: str, name: str) -> None:
        """Push what stands for a name, if the table has it."""
        module, name = pickle_names(module, name)
        path = f'{module}.{name}'
        if path in self.values:
            self.stack.append(self.values[path])
        elif path in self.table:
            self.stack.append(Name(path))
        else:
            raise UnpicklingError(f'it asks for {path[:200]}, which weights never need')

    def call(self) -> None:
        """Let the table make what a function or class would have made."""
        arguments, function = self.stack.pop(), self.stack.pop()
        make = self.table.get(function.path) if type(function) is Name else None
        if make is None or type(arguments) is not tuple:
            what = function.path if type(function) is Name else f'a {type(function).__name__}'
            raise UnpicklingError(f'it calls {what}, which weights never need')
        for argument in arguments:
            if isinstance(argument, (str, bytes)):
                self.charge(argument)
        value = make(*arguments)
        self.charge(value)
        self.made(value)

    def build(self) -> None:
        """Give a stand-in the state of the object that it stands for."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, StandIn):
            target.__setstate__(state)
            self.charge(target)
        elif type(target) is OrderedDict:  # torch hangs the versions of modules on a state dict
            if isinstance(state, dict) and isinstance(state.get('_metadata'), dict):
                target._metadata = state['_metadata']  # type: ignore[attr-defined]
        else:
            what = target.path if type(target) is Name else f'a {type(target).__name__}'
            raise UnpicklingError(f'it changes {what}, which weights never need')

    def extend(self, items: list) -> None:
        """Append to the list on the stack."""
        target = self.stack[-1]
        if type(target) is not list:
            raise UnpicklingError(f'it appends to a {type(target).__name__}')
        target.extend(items)

    def fill(self, items: list) -> None:
        """Set keys and values, in turn, of the dict on the stack."""
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise UnpicklingError(f'it sets items of a {type(target).__name__}')
        for index in range(0, len(items), 2):
            key = items[index]
            target[key if type(key) is str else check_key(key)] = items[index + 1]

    def add(self, items: list) -> None:
        """Add to the set on the stack."""
        target = self.stack[-1]
        if type(target) is not set:
            raise UnpicklingError(f'it adds to a {type(target).__name__}')
        target.update(map(check_key, items))

    def dictionary(self, items: list) -> None:
        """Push a dict of keys and values in turn."""
        self.made({})
        self.fill(items)

    def last(self, count: int) -> None:
        """Push a tuple of the last objects on the stack."""
        if len(self.stack) < count:
            raise UnpicklingError('it is damaged')
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.made(items)

    def persist(self) -> None:
        """Replace a persistent id by its object."""
        if self.persistent is None:
            raise UnpicklingError('it refers to an object outside of itself')
        self.stack.append(self.persistent(self.stack.pop()))

    def text(self, data: bytes) -> None:
        """Push UTF-8 text."""
        self.stack.append(data.decode('utf-8', 'surrogatepass'))

    def quoted(self, line: bytes) -> None:
        """Push text that stands in quotes, as protocol 0 writes it."""
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b'"', b"'"):
            raise UnpicklingError('it is damaged')
        self.stack.append(codecs.escape_decode(line[1:-1])[0].decode('latin1'))  # type: ignore[attr-defined]

    def integer(self, data: bytes) -> None:
        """Push an integer of any length."""
        if len(data) > _MAX_NUMBER:
            raise UnpicklingError('it has an integer of more than a thousand bytes')
        self.stack.append(int.from_bytes(data, 'little', signed=True))

    def number_line(self, line: bytes) -> None:
        """Push a number or a boolean that is written in digits."""
        line = line.rstrip(b'L')
        if len(line) > _MAX_NUMBER:
            raise UnpicklingError('it has an integer of more than a thousand digits')
        self.stack.append({b'00': False, b'01': True}[line] if line in (b'00', b'01') else int(line))


def pickle_names(module: str, name: str) -> tuple[str, str]:
    """The module and name of today for those that Python 2 wrote."""
    return {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}.get(module, module), name


_U1, _U2, _I4, _U4, _U8, _F8 = (Struct(code) for code in ('<B', '<H', '<i', '<I', '<Q', '>d'))


def _number(layout: Struct) -> Callable[[Machine], int]:
    return lambda machine: layout.unpack(machine.take(layout.size))[0]


_u1, _u2, _i4, _u4, _u8 = map(_number, (_U1, _U2, _I4, _U4, _U8))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise UnpicklingError('it asks for a name that is no text')
    machine.named(module, name)


def _mark(machine: Machine) -> None:
    machine.outer.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.since_mark()


def _put(machine: Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _push(make: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(make(machine))


OPERATIONS: dict[bytes, Callable[[Machine], Any]] = {
    pickle.PROTO: lambda m: m.take(1),
    pickle.FRAME: lambda m: m.take(8),
    pickle.MARK: _mark,
    pickle.POP: _pop,
    pickle.POP_MARK: lambda m: m.since_mark() and None,
    pickle.DUP: _push(lambda m: m.stack[-1]),
    # atoms
    pickle.NONE: _push(lambda m: None),
    pickle.NEWTRUE: _push(lambda m: True),
    pickle.NEWFALSE: _push(lambda m: False),
    pickle.INT: lambda m: m.number_line(m.line()),
    pickle.LONG: lambda m: m.number_line(m.line()),
    pickle.BININT: _push(_i4),
    pickle.BININT1: _push(_u1),
    pickle.BININT2: _push(_u2),
    pickle.LONG1: lambda m: m.integer(m.take(_u1(m))),
    pickle.LONG4: lambda m: m.integer(m.take(_i4(m))),
    pickle.FLOAT: _push(lambda m: float(m.line())),
    pickle.BINFLOAT: _push(lambda m: _F8.unpack(m.take(8))[0]),
    pickle.STRING: lambda m: m.quoted(m.line()),
    pickle.BINSTRING: _push(lambda m: m.take(_i4(m)).decode('latin1')),
    pickle.SHORT_BINSTRING: _push(lambda m: m.take(_u1(m)).decode('latin1')),
    pickle.UNICODE: _push(lambda m: m.line().decode('raw-unicode-escape')),
    pickle.SHORT_BINUNICODE: lambda m: m.text(m.take(_u1(m))),
    pickle.BINUNICODE: lambda m: m.text(m.take(_u4(m))),
    pickle.BINUNICODE8: lambda m: m.text(m.take(_u8(m))),
    pickle.SHORT_BINBYTES: _push(lambda m: m.take(_u1(m))),
    pickle.BINBYTES: _push(lambda m: m.take(_u4(m))),
    pickle.BINBYTES8: _push(lambda m: m.take(_u8(m))),
    pickle.BYTEARRAY8: _push(lambda m: m.take(_u8(m))),
    # containers
    pickle.EMPTY_LIST: lambda m: m.made([]),
    pickle.EMPTY_DICT: lambda m: m.made({}),
    pickle.EMPTY_SET: lambda m: m.made(set()),
    pickle.EMPTY_TUPLE: _push(lambda m: ()),
    pickle.LIST: lambda m: m.made(m.since_mark()),
    pickle.DICT: lambda m: m.dictionary(m.since_mark()),
    pickle.FROZENSET: lambda m: m.made(frozenset(map(check_key, m.since_mark()))),
    pickle.TUPLE: lambda m: m.made(tuple(m.since_mark())),
    pickle.TUPLE1: lambda m: m.last(1),
    pickle.TUPLE2: lambda m: m.last(2),
    pickle.TUPLE3: lambda m: m.last(3),
    pickle.APPEND: lambda m: m.extend([m.stack.pop()]),
    pickle.APPENDS: lambda m: m.extend(m.since_mark()),
    pickle.SETITEM: lambda m: m.fill([m.stack.pop(-2), m.stack.pop()]),
    pickle.SETITEMS: lambda m: m.fill(m.since_mark()),
    pickle.ADDITEMS: lambda m: m.add(m.since_mark()),
    # the memo
    pickle.GET: _push(lambda m: m.memo[int(m.line()[:20])]),
    pickle.BINGET: _push(lambda m: m.memo[_u1(m)]),
    pickle.LONG_BINGET: _push(lambda m: m.memo[_u4(m)]),
    pickle.PUT: lambda m: _put(m, int(m.line()[:20])),
    pickle.BINPUT: lambda m: _put(m, _u1(m)),
    pickle.LONG_BINPUT: lambda m: _put(m, _u4(m)),
    pickle.MEMOIZE: lambda m: _put(m, len(m.memo)),
    # names
    pickle.GLOBAL: lambda m: m.named(m.line().decode(), m.line().decode()),
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: Machine.call,
    pickle.NEWOBJ: Machine.call,
    pickle.BUILD: Machine.build,
    pickle.BINPERSID: Machine.persist,
}


# --------------------------------------------------------------------------------------------------------------------
def read_pickle(file: BinaryIO, more: Mapping[str, Callable] | None = None) -> Any:
    """A plain pickle of numbers, text and arrays, such as detectron2's: every name is looked up in the closed table.

    Args:
        more: Stand-ins for further names.

    Raises:
        UnpicklingError: the file asks for another name. A damaged pickle may raise nearly anything.
    """
    return settle(Machine(file, {**TABLE, **(more or {})}).run())


def settle(value: Any) -> Any:
    """Real objects for the stand-ins of a file, in place where the container allows it.

    Raises:
        UnpicklingError: the value holds itself, is nested too deep, or would be far larger than its file if it were
            written without sharing: whoever copies, prints or saves it would never end.
    """
    visited: dict[int, tuple[Any, Any, int, int]] = {}
    settled, _, size = _settle(value, visited, 0)
    if size > 1_000_000 + 20 * len(visited):
        raise UnpicklingError('it refers to the same lists, dicts or tuples so often that it would never end')
    return settled


_LEAVES = frozenset({*ATOMS, int, bytearray, np.ndarray})


def _settle(value: Any, visited: dict, depth: int) -> tuple[Any, int, int]:
    """The value, how deep it is nested, and how many values it would be without sharing."""
    kind = type(value)
    if kind in _LEAVES:
        return value, 0, 1
    known = visited.get(id(value))
    if known is not None:
        _, settled, height, size = known
        if height < 0:
            raise UnpicklingError('it holds a list or dict that holds itself')
        if depth + height > MAX_DEPTH:
            raise UnpicklingError(f'it is nested more than {MAX_DEPTH} deep')
        return settled, height, size
    if depth > MAX_DEPTH:
        raise UnpicklingError(f'it is nested more than {MAX_DEPTH} deep')
    if kind is Name:
        return None, 0, 1
    if not isinstance(value, (StandIn, dict, list, tuple)):
        return value, 0, 1
    visited[id(value)] = value, None, -1, 0
    settled, height, size = value, 0, 1
    if isinstance(value, StandIn):
        settled, height, size = _settle(value.resolved(), visited, depth + 1)
    elif isinstance(value, dict) and kind in (dict, OrderedDict):
        for key, item in value.items():
            new, below, count = _settle(item, visited, depth + 1)
            if new is not item:
                value[key] = new  # the keys stay, so the dict may be walked meanwhile
            height, size = max(height, below), size + count
        if hasattr(value, '_metadata'):
            value._metadata = _versions(value._metadata)
    elif kind in (list, tuple):
        items = []
        for item in value:
            new, below, count = _settle(item, visited, depth + 1)
            items.append(new)
            height, size = max(height, below), size + count
        if isinstance(value, list):
            value[:] = items
        elif any(new is not item for new, item in zip(items, value, strict=True)):
            settled = tuple(items)
    visited[id(value)] = value, settled, height + 1, size
    return settled, height + 1, size


def _versions(metadata: dict) -> OrderedDict:
    """The versions of modules that a state dict carries, and nothing else."""
    names = [name for name, entry in metadata.items() if type(name) is str and type(entry) is dict]
    numbers = ('version', 'assign_to_params_buffers')
    entries = (
        {key: entry[key] for key in numbers if type(entry.get(key)) in (int, bool)}
        for entry in (metadata[name] for name in names)
    )
    return OrderedDict(zip(names, entries, strict=True))
