"""What a training left in its folder."""

from __future__ import annotations

from pathlib import Path

from mmdet.errors import UserFileError


def trained_config(folder: Path) -> Path:
    """The config that a training wrote into its folder."""
    found = [path for path in (folder / 'data' / 'config.py', *sorted(folder.glob('*.py'))) if path.is_file()]
    if not found:
        raise UserFileError(f'folder {str(folder)!r} holds no config, so it is none that a training wrote')
    return found[0]


def best_checkpoint(folder: Path) -> str:
    """The best checkpoint of a training, else the last one."""
    best = sorted(folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    if best:
        return str(best[-1])
    pointer = folder / 'last_checkpoint'
    if pointer.is_file():
        last = folder / Path(pointer.read_text(encoding='utf-8').strip()).name
        if last.is_file():
            return str(last)
    raise UserFileError(f'folder {str(folder)!r} holds no checkpoint')
