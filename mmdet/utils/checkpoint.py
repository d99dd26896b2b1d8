"""Checkpoints that cannot run code and that appear whole or not at all.

Reading: the closed machine of :mod:`mmdet.utils.unpickling`, which makes plain values and tensors only. Writing: plain
values only, which torch's weights-only reader takes as well; temporary file, fsync, rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import numpy as np
import torch

from mmdet.errors import UserError, UserFileError
from mmdet.utils.downloads import download
from mmdet.utils.tensor_files import read_tensors

_LABEL = 'mmdet.json'  # the record of a zip file that holds it


# --------------------------------------------------------------------------------------------------------------------
# Reading
class UnreadableCheckpointError(RuntimeError, UserError):
    """A file that is not a checkpoint, is cut short, or holds something that a checkpoint may not hold."""


def read_checkpoint(source: str | os.PathLike, map_location: Any = 'cpu') -> dict:
    """Read weights or a whole training state from a file, a URL or a ``torchvision://`` style name.

    Raises:
        UnreadableCheckpointError: when the content is damaged, or names anything outside the closed table.
        FileNotFoundError: when there is no such file.
    """
    register_loaders()
    from mmengine.runner import CheckpointLoader

    checkpoint = CheckpointLoader.load_checkpoint(str(source), map_location=map_location, logger='silent')
    if not isinstance(checkpoint, dict):
        raise UnreadableCheckpointError(f'{source} holds a {type(checkpoint).__name__}, not a dict of weights')
    return checkpoint


def read_file(path: str | os.PathLike, map_location: Any = 'cpu', name: str | None = None) -> Any:
    """Read one local file, which messages call ``name``; see :func:`read_checkpoint`."""
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_hub_folder(path, map_location, name)
    if not path.is_file():
        raise UserFileError(f'There is no checkpoint {str(path)!r}.')
    if path.suffix == '.safetensors':
        return _read_safetensors(path, map_location, name)
    try:
        with path.open('rb') as file:
            checkpoint = read_tensors(file, map_location)
    except UnpicklingError as error:
        raise UnreadableCheckpointError(f'{name or path} was refused: {error}') from error
    except Exception as error:  # a damaged pickle or zip may raise nearly anything
        reason = f'{type(error).__name__}: {error}'[:300]
        raise UnreadableCheckpointError(f'{name or path} is damaged or not a checkpoint: {reason}') from error
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)  # MMDetection 1.x; mmengine's resume would execute it
    return checkpoint


def _read_safetensors(path: Path, map_location: Any, name: str | None) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    device = map_location if isinstance(map_location, (str, torch.device)) else 'cpu'
    try:
        return {'state_dict': OrderedDict(load_file(path, device=str(device)))}
    except SafetensorError as error:
        raise UnreadableCheckpointError(f'{name or path} is damaged or not a safetensors file: {error}') from error


def _read_hub_folder(folder: Path, map_location: Any, name: str | None) -> dict:
    """What `transformers` saves: ``model.safetensors``, or parts of it and an index, and ``config.json``."""
    index = folder / 'model.safetensors.index.json'
    files = ['model.safetensors']
    if index.is_file():
        table = _read_json(index).get('weight_map')
        parts = table.values() if isinstance(table, dict) else ()
        files = sorted({Path(part).name for part in parts if isinstance(part, str)})
    if not files or not all((folder / file).is_file() for file in files):
        raise UserFileError(
            f'The folder {str(folder)!r} is no checkpoint: it has no {" or ".join(files) or "files of the index"}.'
        )
    weights: OrderedDict = OrderedDict()
    for file in files:
        weights.update(_read_safetensors(folder / file, map_location, name)['state_dict'])
    return dict(state_dict=weights, meta=_hub_meta(folder / 'config.json'))


def _hub_meta(path: Path) -> dict:
    """The names of the classes, as checkpoints have them; nothing of COCO's 91 ids, of which a detector has 80.

    ``mmdet_config`` is the text of a config, which this package writes there.
    """
    content = _read_json(path) if path.is_file() else {}
    names, text = content.get('id2label'), content.get('mmdet_config')
    meta = dict(cfg=text) if isinstance(text, str) else {}
    return meta | _named_classes(names)


def _named_classes(names: Any) -> dict:
    if not isinstance(names, dict) or len(names) == 91:
        return {}
    classes = [names.get(str(i)) for i in range(len(names))]
    if not all(isinstance(name, str) and name != f'LABEL_{i}' for i, name in enumerate(classes)):
        return {}
    return dict(dataset_meta=dict(classes=tuple(classes)))


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UnreadableCheckpointError(f'{path} is damaged or not a JSON file: {error}') from error
    return content if isinstance(content, dict) else {}


def register_loaders() -> None:
    """Make every loading path of mmengine (files, URLs, ``torchvision://``, ``init_cfg``) use this reader."""
    from mmengine.runner import checkpoint as module
    from mmengine.runner.checkpoint import CheckpointLoader

    if module.load_from_http is load_from_http:
        return
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)
    CheckpointLoader.register_scheme('hf://', load_from_hub, force=True)
    # torchvision://, open-mmlab:// and mmcls:// look their URL up and then call this by its module-level name
    module.load_from_http = load_from_http
    # object stores, and open-mmlab:// names of local files, call torch.load there
    module.torch = _Torch('torch')


class _Torch(ModuleType):
    """What mmengine's loaders of checkpoints know as torch: its ``load`` is the closed reader."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(file: Any, map_location: Any = None, **options: Any) -> Any:
        if isinstance(file, (str, os.PathLike)):
            return read_file(file, map_location)
        try:
            return read_tensors(file, map_location)
        except Exception as error:  # a damaged pickle or zip may raise nearly anything
            raise UnreadableCheckpointError(f'The checkpoint was refused: {str(error)[:300]}') from error


def load_from_local(filename: str, map_location: Any = 'cpu') -> Any:
    """As :func:`read_file`; a loader by prefix of mmengine."""
    return read_file(filename, map_location)


def load_from_hub(filename: str, map_location: Any = 'cpu') -> Any:
    """As :func:`read_file`, of ``hf://owner/repo`` or a file of it; see :mod:`mmdet.utils.hub_files`."""
    from mmdet.utils.hub_files import hub_path

    return read_file(hub_path(filename), map_location, filename)


def load_from_http(
    filename: str, map_location: Any = 'cpu', model_dir: str | None = None, progress: bool = False
) -> Any:
    """As :func:`read_file`, of what is kept in ``model_dir``, by default torch's cache, once it could be read.

    Raises:
        DownloadError: see :func:`mmdet.utils.downloads.download`.
    """
    from mmengine.dist import barrier, get_rank

    folder = model_dir or Path(torch.hub.get_dir()) / 'checkpoints'
    content, failure = None, None
    for turn in (get_rank() == 0, get_rank() != 0):  # the others find what the first has fetched
        if turn:
            try:
                content = _downloaded(filename, folder, map_location)
            except Exception as error:
                failure = error
        barrier()
    if failure is not None:
        raise failure
    return content


def _downloaded(url: str, folder: str | os.PathLike, map_location: Any) -> Any:
    read: list[Any] = []
    path = download(url, folder, lambda new: read.append(read_file(new, map_location, name=url)))
    return read[0] if read else read_file(path, map_location)


# --------------------------------------------------------------------------------------------------------------------
# Writing
def plain(value: Any) -> Any:
    """The value in Python's own types and tensors; callables and unknown objects become None."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if value is None or isinstance(value, (bool, str, bytes, torch.Size, torch.dtype)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, int):  # subclasses too
        return int(value)
    if isinstance(value, (float, complex)):
        return float(value) if isinstance(value, float) else complex(value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy()) if value.dtype.kind in 'biufc' else value.tolist()
    if isinstance(value, dict):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((plain(key), plain(dict.__getitem__(value, key))) for key in value)
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(map(plain, value))
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value), key=repr)
    return str(value) if isinstance(value, os.PathLike) else None


def pack_histories(hub: dict) -> dict:
    """The state of a message hub with its histories as tensors."""
    histories = {}
    for name, buffer in hub['log_scalars'].items():
        values, counts = (torch.from_numpy(np.asarray(column, dtype=np.float64)) for column in buffer.data)
        histories[name] = dict(history=values, count=counts, max_length=buffer.max_length)
    return {**hub, 'log_scalars': histories}


def unpack_histories(hub: dict | None) -> None:
    """Undo :func:`pack_histories` in place; states that mmengine itself wrote stay as they are."""
    from mmengine.logging import HistoryBuffer

    scalars = (hub or {}).get('log_scalars', {})
    for name, packed in scalars.items():
        if isinstance(packed, dict):
            columns = (packed['history'].numpy(), packed['count'].numpy())
            scalars[name] = HistoryBuffer(*columns, packed['max_length'])


def save_checkpoint(
    checkpoint: dict, target: str | os.PathLike, backend_args: dict | None = None, label: dict | None = None
) -> None:
    """Write a checkpoint, or only its weights when ``target`` ends with ``.safetensors``.

    A local target is written beside its place, flushed to the disk and renamed, so a killed process or a full disk
    leaves the previous file. Other targets go through mmengine's file backends.

    Args:
        label: What :func:`label_of` reads from the file at no cost: the ``run_id``, for example.
    """
    label = label or {}
    metadata = getattr(checkpoint.get('state_dict'), '_metadata', None)
    checkpoint = plain(checkpoint)
    if metadata is not None:
        checkpoint['state_dict']._metadata = plain(metadata)
    if '://' in str(target) or backend_args:
        import io

        from mmengine.fileio import put

        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        _attach(buffer, label)
        put(buffer.getvalue(), str(target), backend_args=backend_args)
        return
    with atomic_file(target, label.get('run_id')) as file:
        if str(target).endswith('.safetensors'):
            from safetensors.torch import save

            weights = checkpoint.get('state_dict', checkpoint)
            file.write(save({name: tensor.contiguous().clone() for name, tensor in weights.items()}))
        else:
            _save(checkpoint, file)
            _attach(file, label)


def _save(checkpoint: dict, file: Any) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # torch's writer speaks of positions in place of what the disk has said
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _attach(file: Any, label: dict) -> None:
    """Add a label to a zip file of torch, as one more record."""
    if label:
        with zipfile.ZipFile(file, 'a') as archive:
            folder = archive.namelist()[0].partition('/')[0]
            archive.writestr(zipfile.ZipInfo(f'{folder}/{_LABEL}'), json.dumps(plain(label)))


def label_of(path: str | os.PathLike) -> dict:
    """What was attached to a checkpoint when it was saved, without reading the checkpoint; empty where nothing was."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith(f'/{_LABEL}')), None)
            if name is None or archive.getinfo(name).file_size > 4096:
                return {}
            label = json.loads(archive.read(name))
    except Exception:  # a damaged zip may raise nearly anything
        return {}
    return label if isinstance(label, dict) else {}


@contextlib.contextmanager
def atomic_file(target: str | os.PathLike, owner: str | None = None) -> Iterator[Any]:
    """A binary file that takes the name ``target`` when the block ends well, and is removed otherwise.

    Args:
        owner: The id of the run, in the name of the temporary file that a killed process leaves.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f'.{target.name[:100]}.' + (f'{owner}.' if owner else '')
    handle, name = tempfile.mkstemp(prefix=prefix, suffix='.part', dir=target.parent)
    try:
        with os.fdopen(handle, 'w+b') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    with contextlib.suppress(OSError):  # not every file system lets a folder be flushed
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
