"""Which checkpoint of a run's folder is resumed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mmdet.utils.checkpoint import UnreadableCheckpointError, label_of, read_file
from mmdet.utils.run_folder import RunRecord, is_regular, read_record

_NO_STATES = ('best_', 'nonfinite_')  # names of files that hold weights or a batch alone


def lacks(checkpoint: Any) -> list[str]:
    """What a run cannot go on without and a checkpoint does not have, by dotted key."""
    if not isinstance(checkpoint, dict):
        return ['state_dict']
    missing = [key for key in ('state_dict', 'optimizer') if not isinstance(checkpoint.get(key), dict)]
    if not missing and not checkpoint['state_dict']:
        missing.append('state_dict')
    parts = dict(meta=('epoch', 'iter'), message_hub=('log_scalars', 'runtime_info', 'resumed_keys'))
    for part, keys in parts.items():
        value = checkpoint.get(part)
        if not isinstance(value, dict):
            missing.append(part)
            continue
        for key in keys:
            found = value.get(key)
            good = isinstance(found, dict) if part == 'message_hub' else type(found) is int and found >= 0
            if not good:
                missing.append(f'{part}.{key}')
    return missing


def newest_readable(folder: str | os.PathLike) -> tuple[Path | None, dict | None, list[str]]:
    """The checkpoint at which the run of a folder goes on.

    That is the one which ``last_checkpoint`` names, if it can be read and belongs to the run that the folder is of.
    Otherwise an older one of the same run, the latest first; at last that which the run began with.

    Returns:
        Its path and content, or None twice, and a note for each that was left out, with the reason.

    Raises:
        UnreadableCheckpointError: there are checkpoints, and none can be read: a run that begins anew would overwrite
            what may be rescued.
    """
    folder = Path(folder)
    notes: list[str] = []
    damaged: list[str] = []
    record = read_record(folder)
    last = _pointed(folder, notes)
    if last is not None:
        checkpoint = _try(last, record, notes, damaged)
        if checkpoint is not None:
            return last, checkpoint, notes
        owner = label_of(last).get('run_id')
        if record is None and owner is not None:
            record = RunRecord(owner)
    tried = {last}
    others = _others(folder if last is None else last.parent, last)
    if record is not None and record.source is not None:
        others.append(folder / record.source)
    for path in others:
        checkpoint = _try(path, record, notes, damaged) if path not in tried and is_regular(path) else None
        tried.add(path)
        if checkpoint is not None:
            return path, checkpoint, notes
    if damaged:
        raise UnreadableCheckpointError(
            f'No checkpoint in {folder} can be resumed. {" ".join(notes)} Without --resume a new run begins.'
        )
    return None, None, notes


def _pointed(folder: Path, notes: list[str]) -> Path | None:
    """The file that ``last_checkpoint`` names: beside it, since the folder may have moved, or where it says."""
    pointer = folder / 'last_checkpoint'
    if not is_regular(pointer):
        if os.path.lexists(pointer):
            notes.append(f'{pointer} is not a file and was left out.')
        return None
    try:
        with pointer.open('rb') as file:
            text = file.read(4096).decode(errors='replace').strip()
    except OSError as error:
        notes.append(f'last_checkpoint cannot be read: {error}')
        return None
    name = os.path.basename(text)
    for path in (folder / name, Path(text)):
        if name and is_regular(path):
            return path
    notes.append(f'last_checkpoint names {text[:200]!r}, which is not there.')
    return None


def _try(path: Path, record: RunRecord | None, notes: list[str], damaged: list[str]) -> dict | None:
    """The content of a file, if the run can go on with it."""
    owner = label_of(path).get('run_id')
    if owner is not None and record is not None and not _is_past(path, owner, record):
        notes.append(_foreign(path))
        return None
    try:
        checkpoint = read_file(path)
    except (UnreadableCheckpointError, OSError) as error:
        notes.append(f'{path.name} was not resumed: {error}')
        damaged.append(path.name)
        return None
    missing = lacks(checkpoint)
    if missing:
        notes.append(f'{path.name} was not resumed: it holds no training state (no {", ".join(missing)}).')
        return None
    if record is not None and not _is_past(path, owner or checkpoint['meta'].get('run_id'), record):
        notes.append(_foreign(path))
        return None
    return checkpoint


def _foreign(path: Path) -> str:
    return (
        f'{path.name} was not resumed: it belongs to another run that trained in this folder before '
        f'(--resume {path} continues that one).'
    )


def _is_past(path: Path, owner: Any, record: RunRecord) -> bool:
    """Whether a checkpoint is of the run of a record, or the one from which that run went on.

    One without an id, which another program wrote, is of the run if it is younger than the record.
    """
    if owner == record.run_id or record.source in (path.name, str(path)):
        return True
    return owner is None and (record.adopts or os.stat(path).st_mtime_ns >= record.written)


def _others(folder: Path, last: Path | None) -> list[Path]:
    """The other checkpoints of a folder, the latest first; those with a higher number than ``last`` come at the end.

    Such a one is of a save that was stopped before ``last_checkpoint`` named it, or the run was set back since.
    """
    try:
        names = [n for n in os.listdir(folder) if re.search(r'\d+\.pth$', n) and not n.startswith(_NO_STATES)]
    except OSError:
        return []

    def number(name: str) -> int:
        return int(re.findall(r'\d+', name)[-1])

    def key(name: str) -> tuple:
        step = label_of(folder / name).get('iter')
        same_kind = last is not None and re.sub(r'\d+', '', name) == re.sub(r'\d+', '', last.name)
        ahead = last is not None and same_kind and number(name) > number(last.name)
        age = os.stat(folder / name).st_mtime_ns
        return not ahead, step if isinstance(step, int) else -1, number(name) if one_kind else age, age

    names = [name for name in names if (last is None or name != last.name) and is_regular(folder / name)]
    one_kind = len({re.sub(r'\d+', '', name) for name in names}) == 1
    return [folder / name for name in sorted(names, key=key, reverse=True)]
