"""What a config inherits, and what it changes in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdet.config.files import PREFIX, packaged_config, resolve_config
from mmdet.config.loading import load_config, uses_read_base
from mmdet.errors import UserValueError


def diff_to_base(cfg: Any, path: str | Path, other: str | Path | None = None) -> list[str]:
    """Lines ``+ key = value``, ``- key = value`` for what a config has and another has not.

    Args:
        path: The file of ``cfg``.
        other: The config to compare with; by default the files that ``path`` inherits from.
    """
    if other is None:
        before = merged_bases(resolve_config(path))
        if before is None:
            raise UserValueError(f'{path} inherits from no other file; name one to compare with')
    else:
        before = load_config(other)._cfg_dict
    old, new = dict(_leaves(before)), dict(_leaves(cfg._cfg_dict))
    lines = []
    for key in sorted({*old, *new}):
        if key in old and (key not in new or old[key] != new[key]):
            lines.append(f'- {key} = {old[key]!r}')
        if key in new and (key not in old or old[key] != new[key]):
            lines.append(f'+ {key} = {new[key]!r}')
    return lines


def _leaves(node: Any, where: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key in [key for key in node if key != '_scope_']:  # which bases of packages are marked with
            yield from _leaves(dict.__getitem__(node, key), f'{where}.{key}' if where else str(key))
    elif isinstance(node, (list, tuple)) and any(isinstance(item, dict) for item in node):
        for index, item in enumerate(node):
            yield from _leaves(item, f'{where}[{index}]')
    else:
        yield where, node


def merged_bases(path: Path) -> dict | None:
    """The files in ``_base_`` of a classic config, merged; None where there are none."""
    from mmengine.config import Config

    source = path.read_text(encoding='utf-8') if path.suffix == '.py' else ''
    if not source or uses_read_base(source, path):
        return None
    merged: dict | None = None
    for name in _base_names(source):
        if '::' in name and not name.startswith(PREFIX):
            continue  # of another package
        file = packaged_config(name) if name.startswith(PREFIX) else (path.parent / name).resolve()
        if file.is_file():
            values = load_config(file)._cfg_dict
            merged = values if merged is None else Config._merge_a_into_b(values, merged)
    return merged


def _base_names(source: str) -> list[str]:
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], 'id', '') == '_base_':
            try:
                value = ast.literal_eval(statement.value)
            except ValueError:
                return []
            return [value] if isinstance(value, str) else list(value)
    return []
