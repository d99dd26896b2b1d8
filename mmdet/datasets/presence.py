"""Whether the pictures that annotation files list are there: to be asked before the first iteration."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from mmcv.transforms import LoadImageFromFile

from mmdet.utils.pictures import is_local

FEW = 50  # so many files are looked for one by one, of more the folder is listed


def missing_files(paths: Iterable[str]) -> list[str]:
    """Those of the paths that name no file."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(os.path.dirname(path), []).append(path)
    missing = []
    for folder, inside in folders.items():
        if len(inside) <= FEW:
            missing += [path for path in inside if not os.path.exists(path)]
            continue
        try:
            there = set(os.listdir(folder or '.'))
        except OSError:
            there = set()
        missing += [path for path in inside if os.path.basename(path) not in there]
    return missing


def pictures_to_read(samples: Iterable[dict], transforms: Sequence[Any]) -> list[str]:
    """The files of this machine that a pipeline would stop at if they were not there."""
    loader = next((step for step in transforms if isinstance(step, LoadImageFromFile)), None)
    if loader is None or loader.ignore_empty or loader.file_client_args is not None:
        return []
    if not getattr(loader, 'reads_files', True):
        return []
    found: list[str] = []
    for sample in samples:
        path = sample.get('img_path')
        found += path if isinstance(path, (list, tuple)) else [path] if isinstance(path, str) else []
    return [path for path in found if is_local(path, loader.backend_args)]
