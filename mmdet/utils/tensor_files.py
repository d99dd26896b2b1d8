"""The files that ``torch.save`` writes, read by the closed machine of :mod:`mmdet.utils.unpickling`.

Both formats are known: the zip file of torch 1.6 and later, and what there was before. Tensors are views into storages
whose bytes lie in the file, so nothing can be larger than the file: a record that is compressed, a tensor beyond its
storage and two records over the same bytes are refused. The checksums that a zip file holds are compared.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch

from mmdet.errors import UserFileError, UserValueError
from mmdet.utils.stand_ins import TABLE, Name, StandIn, check_shape
from mmdet.utils.unpickling import Machine, settle

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle in a file of torch before 1.6
_MAX_OVERLAP = 1 << 24  # elements of a tensor that is expanded, such as one value in every place
_DTYPES = {
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
    'ComplexDoubleStorage': torch.complex128,
    'ComplexFloatStorage': torch.complex64,
}
_STORAGES = {
    **{f'{home}.{name}': dtype for home in ('torch', 'torch.cuda') for name, dtype in _DTYPES.items()},
    **{f'torch.storage.{name}': torch.uint8 for name in ('UntypedStorage', '_UntypedStorage')},
}
# Names that stand for values: torch.float32 and its kin
VALUES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


class Storage(StandIn):
    """The elements of one storage as a flat tensor, on the device where they shall be."""

    __slots__ = ('flat',)

    def __init__(self, flat: torch.Tensor) -> None:
        self.flat = flat

    def resolved(self) -> torch.Tensor:
        return self.flat

    def cost(self) -> int:
        return self.flat.numel() * self.flat.element_size()


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, *rest: Any) -> torch.Tensor:
    if not isinstance(storage, Storage):
        raise UnpicklingError('it has a tensor without a storage')
    if any(rest[1:]):
        raise UnpicklingError('it has a tensor with marks such as a pending conjugation')
    return _view(storage.flat, offset, size, stride, requires_grad)


def _typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, metadata: Any = None
) -> torch.Tensor:
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype) or metadata:
        raise UnpicklingError('it has a tensor without a storage or a type')
    return _view(storage.flat.view(dtype), offset, size, stride, requires_grad)


def _view(flat: torch.Tensor, offset: Any, size: Any, stride: Any, requires_grad: Any) -> torch.Tensor:
    size, stride = check_shape(size), tuple(int(n) for n in stride)
    if len(size) != len(stride) or len(size) > 64 or min(stride, default=0) < 0 or offset < 0:
        raise UnpicklingError('it has a tensor of an impossible shape')
    count = math.prod(size)
    end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1 if count else offset
    if end > len(flat) or count > max(len(flat), _MAX_OVERLAP):
        raise UnpicklingError('it has a tensor that is larger than its storage')
    tensor = torch.empty(0, dtype=flat.dtype, device=flat.device)
    tensor.set_(flat.untyped_storage(), flat.storage_offset() + offset, size, stride)
    return tensor.requires_grad_() if requires_grad and tensor.dtype.is_floating_point else tensor


def _parameter(data: Any, requires_grad: Any, *rest: Any) -> torch.nn.Parameter:
    if not isinstance(data, torch.Tensor):
        raise UnpicklingError('it has a parameter without a tensor')
    trainable = bool(requires_grad) and (data.is_floating_point() or data.is_complex())
    return torch.nn.Parameter(data.detach(), requires_grad=trainable)


def _of_type(function: Any, kind: Any, arguments: Any, state: Any = None) -> torch.Tensor:
    """A tensor that had attributes, which are left out"""
    make = _TENSORS.get(function.path) if type(function) is Name else None
    if make is None or make is _of_type or type(arguments) is not tuple:
        raise UnpicklingError('it has a tensor of an unknown kind')
    return make(*arguments)


def _storage_from_bytes(data: Any) -> Storage:
    """How a storage is written into a pickle that ``torch.save`` did not make"""
    if type(data) is not bytes:
        raise UnpicklingError('it has a storage without bytes')
    storage = _read_old(io.BytesIO(data), _placer('cpu'))
    if not isinstance(storage, Storage):
        raise UnpicklingError('it has a storage that is none')
    return storage


def _device(kind: Any, index: Any = None) -> torch.device:
    return torch.device(kind) if index is None else torch.device(kind, index)


_TENSORS: dict[str, Callable | None] = {
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _typed_tensor,
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
    'torch._tensor._rebuild_from_type_v2': _of_type,
    'torch._tensor._rebuild_from_type': _of_type,
    'torch.Size': lambda size=(): torch.Size(check_shape(size)),
    'torch.device': _device,
    **dict.fromkeys(('torch.Tensor', 'torch._tensor.Tensor', 'torch.nn.parameter.Parameter')),
    **dict.fromkeys(_STORAGES),
}
_TABLE = {**TABLE, **_TENSORS}


def read_tensors(file: BinaryIO, map_location: Any = 'cpu', more: dict[str, Callable] | None = None) -> Any:
    """The content of a file of ``torch.save``, or of a plain pickle of arrays and tensors.

    Args:
        file: Open for reading bytes, and able to seek.
        map_location: As in ``torch.load``.
        more: Stand-ins for further names.

    Raises:
        UnpicklingError: the file is damaged or holds what weights never need. A damaged file may raise nearly anything.
    """
    place = _placer(map_location)
    head = file.read(4)
    file.seek(0)
    value = _read_zip(file, place) if head == b'PK\3\4' else _read_old(file, place, more or {})
    return settle(value)


def read_results(path: str | os.PathLike) -> list[dict]:
    """The predictions that ``tools/test.py --out`` wrote, a dict for each picture.

    Raises:
        UserFileError: there is no such file.
        UserValueError: it is damaged, asks for anything but numbers, text, arrays and tensors, or is no list of dicts.
    """
    path = Path(path)
    if not path.is_file():
        raise UserFileError(f'There are no results at {path}; tools/test.py --out writes them.')
    try:
        with path.open('rb') as file:
            results = json.load(file) if path.suffix == '.json' else read_tensors(file)
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise UserValueError(f'The results in {path} cannot be read: {str(error)[:300]}') from error
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise UserValueError(f'{path} holds no list of predictions; tools/test.py --out writes one.')
    return results


def _placer(map_location: Any) -> Callable[[torch.Tensor, str], torch.Tensor]:
    """What puts the elements of a storage, read to the CPU, where they shall be; given where they were."""
    if map_location is None or isinstance(map_location, dict):
        places = map_location or {}
        return lambda flat, location: flat.to(places.get(location, location))
    if callable(map_location):

        def call(flat: torch.Tensor, location: str) -> torch.Tensor:
            storage = map_location(flat.untyped_storage(), location)
            if storage is None:
                return flat.to(location)
            return torch.empty(0, dtype=flat.dtype, device=storage.device).set_(storage)  # type: ignore[call-overload]

        return call
    return lambda flat, location: flat.to(map_location)


def _storage_id(reference: Any) -> tuple[torch.dtype, str, str, int]:
    """Type, key, former device and number of elements that a persistent id gives."""
    if type(reference) is not tuple or len(reference) < 5 or reference[0] != 'storage':
        raise UnpicklingError('it refers to something that is no storage')
    _, kind, key, location, count, *_ = reference
    path = kind.path if type(kind) is Name else ''
    if path not in _STORAGES or type(key) is not str or type(location) is not str or type(count) is not int:
        raise UnpicklingError('it has a storage of an unknown kind')
    if count < 0:
        raise UnpicklingError('it has a storage of an impossible size')
    return _STORAGES[path], key, location, count


def _swap(flat: torch.Tensor) -> None:
    """Change the order of the bytes in each number, in place."""
    width = flat.element_size() // (2 if flat.is_complex() else 1)
    rows = flat.view(torch.uint8).view(-1, width)
    rows.copy_(rows.flip(1))


# --------------------------------------------------------------------------------------------------------------------
# Zip files
class _Records:
    """The records of a zip file in which nothing is compressed, overlaps or is larger than the file."""

    def __init__(self, file: BinaryIO) -> None:
        size = file.seek(0, io.SEEK_END)
        try:
            entries = zipfile.ZipFile(file).infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
            raise UnpicklingError(f'it is cut short or damaged: {error}') from error
        self.file = file
        self.entries = {entry.filename.partition('/')[2]: entry for entry in entries}
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise UnpicklingError('its records are compressed or encrypted, which torch never does')
        if len(self.entries) < len(entries) or sum(entry.file_size for entry in entries) > size:
            raise UnpicklingError('its records overlap, or are larger together than the file')
        # torch can leave the checksums out
        self.checked = any(entry.CRC for entry in entries)

    def read_into(self, name: str, target: memoryview) -> None:
        """Fill ``target`` with a record of exactly its size.

        Raises:
            UnpicklingError: there is no such record, it has another size, or its checksum does not fit.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise UnpicklingError(f'its record {name[:100]!r} is missing')
        self.file.seek(entry.header_offset)
        header = self.file.read(30)
        if len(header) < 30 or header[:4] != b'PK\3\4':
            raise UnpicklingError(f'its record {name[:100]!r} is damaged')
        skipped = int.from_bytes(header[26:28], 'little') + int.from_bytes(header[28:30], 'little')
        self.file.seek(entry.header_offset + 30 + skipped)
        if entry.file_size != len(target) or self.file.readinto(target) != len(target):  # type: ignore[attr-defined]
            raise UnpicklingError(f'its record {name[:100]!r} is cut short')
        if self.checked and zlib.crc32(target) != entry.CRC:
            raise UnpicklingError(f'its record {name[:100]!r} is damaged: the checksum does not fit')

    def read(self, name: str) -> bytes:
        data = bytearray(self.entries[name].file_size if name in self.entries else 0)
        self.read_into(name, memoryview(data))
        return bytes(data)


def _read_zip(file: BinaryIO, place: Callable) -> Any:
    records = _Records(file)
    if 'constants.pkl' in records.entries:
        raise UnpicklingError('it is a TorchScript program, not weights')
    order = records.read('byteorder').decode() if 'byteorder' in records.entries else 'little'
    storages: dict[str, tuple[torch.dtype, Storage]] = {}

    def persistent(reference: Any) -> Storage:
        dtype, key, location, count = _storage_id(reference)
        if key not in storages:
            entry = records.entries.get(f'data/{key}')
            width = torch.empty(0, dtype=dtype).element_size()
            if entry is None or entry.file_size != count * width:
                raise UnpicklingError(f'its record {f"data/{key}"[:100]!r} is missing or cut short')
            data = torch.empty(entry.file_size, dtype=torch.uint8)
            records.read_into(f'data/{key}', data.numpy().data)
            flat = data.view(dtype)
            if order != sys.byteorder:
                _swap(flat)
            storages[key] = dtype, Storage(place(flat, location))
        if storages[key][0] != dtype:
            raise UnpicklingError('it has a storage of two types')
        return storages[key][1]

    return Machine(io.BytesIO(records.read('data.pkl')), _TABLE, VALUES, persistent).run()


# --------------------------------------------------------------------------------------------------------------------
# Before torch 1.6: pickles one after the other, then the storages
def _read_old(file: BinaryIO, place: Callable, more: dict[str, Callable] | None = None) -> Any:
    def run(persistent: Callable | None = None) -> Any:
        return Machine(file, table, VALUES, persistent).run()

    # a storage within a storage is nobody's
    nested = _storage_from_bytes if more is not None else None
    table = {**_TABLE, 'torch.storage._load_from_bytes': nested, **(more or {})}
    first = run()
    if type(first) is not int or first != MAGIC:
        return first
    if run() != 1001:
        raise UnpicklingError('it has an unknown format of torch')
    system = run()
    little = not isinstance(system, dict) or system.get('little_endian', True) is True
    start = file.tell()
    storages: dict[str, tuple[torch.dtype, str, int]] = {}

    def measure(reference: Any) -> Storage:
        dtype, key, location, count = _storage_id(reference)
        if storages.setdefault(key, (dtype, location, count)) != (dtype, location, count):
            raise UnpicklingError('it has a storage of two types')
        return slice_of(reference, torch.empty(count, dtype=dtype, device='meta'))

    def slice_of(reference: tuple, flat: torch.Tensor) -> Storage:
        if len(reference) < 6 or reference[5] is None:
            return Storage(flat)
        _, offset, count = reference[5]
        if offset < 0 or count < 0 or offset + count > len(flat):
            raise UnpicklingError('it has a storage that is larger than another of which it is a part')
        return Storage(flat[offset : offset + count])

    run(measure)
    flats = {}
    for key in run():
        dtype, location, count = storages.get(key, (torch.uint8, 'cpu', -1))
        if count < 0 or int.from_bytes(file.read(8), 'little' if little else 'big') != count:
            raise UnpicklingError('it is cut short or damaged')
        left = file.seek(0, io.SEEK_END) if False else _left(file)
        width = torch.empty(0, dtype=dtype).element_size()
        if count * width > left:
            raise UnpicklingError('it is cut short')
        data = torch.empty(count * width, dtype=torch.uint8)
        if file.readinto(data.numpy().data) != len(data):  # type: ignore[attr-defined]
            raise UnpicklingError('it is cut short')
        flat = data.view(dtype)
        if little != (sys.byteorder == 'little'):
            _swap(flat)
        flats[key] = place(flat, location)
    if flats.keys() != storages.keys():
        raise UnpicklingError('it is cut short: storages are missing')
    file.seek(start)
    return run(lambda reference: slice_of(reference, flats[reference[2]]))


def _left(file: BinaryIO) -> int:
    here = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(here)
    return size - here
