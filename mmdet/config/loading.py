"""Config files as :class:`mmengine.Config`."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path
from typing import Any

from mmdet.config.files import config_root, resolve_config
from mmdet.config.mmengine_repairs import repair_mmengine
from mmdet.config.version2 import is_v2, translate_v2
from mmdet.errors import UserError, UserFileError, UserImportError, UserValueError


def load_config(path: str | Path, cfg_options: dict | None = None) -> Any:
    """Read a config file, with the files that it inherits from.

    Args:
        path: A ``.py`` (classic or lazy), ``.json`` or ``.yaml`` config, ``mmdet::family/config.py``, or the
            name of one of our configs. A Python config is a program and is run.
        cfg_options: Values by dotted key that overwrite those of the file.

    Returns:
        ``mmengine.Config`` that prints without running a code formatter. Configs written for MMDetection 2.x are
        translated; the notes are in its attribute ``translation_notes``. ``without_effect`` holds the options that no
        part of the config took, with what could be set instead.

    Raises:
        UserFileError: there is no such file, with the nearest existing config names, or none that it inherits from.
        UserImportError: a module that it imports, or names in ``custom_imports``, cannot be imported.
        UserValueError: the file cannot be run or parsed, or ``cfg_options`` do not fit it.
    """
    repair_mmengine()
    path = resolve_config(path)
    if not path.is_file():
        raise UserFileError(_missing(path))
    from mmdet.config.overrides import lost_options, variable_options

    variables = variable_options(cfg_options or {})
    cfg, notes = _read(path, variables)
    lost = {}
    if variables:
        plain = _read(path, {})[0]._cfg_dict
        # each alone: of two that change the same place, one alone may have no effect
        alone = {name: _read(path, {name: options})[0]._cfg_dict for name, options in variables.items()}
        lost = lost_options(plain, alone, variables)
    merged = {}
    for key, value in (cfg_options or {}).items():
        name = key.partition('.')[0]
        if name in cfg or name not in variables or key in lost:  # the translation from 2.x has used up the others
            merged[key] = value
    if merged:
        try:
            cfg.merge_from_dict(merged)
        except (AssertionError, IndexError, KeyError, TypeError) as error:
            raise UserValueError(f'the options {cfg_options} do not fit {str(path)!r}: {error}') from error
    object.__setattr__(cfg, 'translation_notes', list(dict.fromkeys(notes)))
    object.__setattr__(cfg, 'without_effect', lost)
    return cfg


def _read(path: Path, variables: dict[str, dict[str, Any]]) -> tuple[Any, list[str]]:
    """The config of a file with options of its variables, and the notes on its translation."""
    from mmengine.config import Config

    from mmdet.config.overrides import setting_variables

    try:
        lazy = path.suffix == '.py' and uses_read_base(path.read_text(encoding='utf-8'), path)
        with setting_variables(variables):
            cfg = Config.fromfile(str(path), lazy_import=lazy)
    except UserError:
        raise
    except Exception as error:  # a Python config is a program
        kinds = {FileNotFoundError: UserFileError, ImportError: UserImportError}
        kind = next((ours for builtin, ours in kinds.items() if isinstance(error, builtin)), UserValueError)
        given = (
            f' with the options {", ".join(key for keys in variables.values() for key in keys)}' if variables else ''
        )
        raise kind(f'config {str(path)!r} cannot be read{given}: {type(error).__name__}: {error}') from error
    # Config's own switch: its text is valid Python either way, and the formatter takes half a second each time
    object.__setattr__(cfg, '_format_python_code', False)
    if not is_v2(cfg):
        return cfg, []
    values, notes = translate_v2(cfg._cfg_dict.to_dict())
    return Config(values, filename=str(path), format_python_code=False), notes


def uses_read_base(source: str, name: str | Path = '<config>') -> bool:
    """Whether a config is of the lazy kind, which inherits through ``with read_base():``."""
    for node in ast.walk(ast.parse(source, str(name))):
        if isinstance(node, ast.With):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and getattr(call.func, 'id', '') == 'read_base':
                    return True
    return False


def _missing(path: Path) -> str:
    message = f'There is no config file {str(path)!r}.'
    root = next((parent for parent in path.parents if parent.name == 'configs' and parent.is_dir()), None)
    if root is None:
        try:
            root = config_root()
        except UserFileError:
            root = path.parent
    if not root.is_dir():
        return message
    known: dict[str, Path] = {}
    for file in sorted(root.rglob('*.py')):
        if '_base_' not in file.parts:
            known.setdefault(file.stem, file)
    near = difflib.get_close_matches(path.stem, list(known), n=3, cutoff=0.6)
    if near:
        message += ' Did you mean ' + ' or '.join(str(known[name]) for name in near) + '?'
    return message
