"""Configs: loading, stored configs that are parsed but never executed, and two repairs of mmengine."""

from __future__ import annotations

import ast
import difflib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdet.engine.config_v2 import is_v2, translate_v2


def load_config(path: str | Path, cfg_options: dict | None = None) -> Any:
    """Read a config file, with the files that it inherits from.

    Args:
        path: A ``.py`` (classic or lazy), ``.json`` or ``.yaml`` config. A Python config is a program and is run.
        cfg_options: Values by dotted key that overwrite those of the file.

    Returns:
        ``mmengine.Config`` that prints without running a code formatter. Configs written for MMDetection 2.x are
        translated; the notes are in its attribute ``translation_notes``.

    Raises:
        FileNotFoundError: with the nearest existing config names.
    """
    from mmengine.config import Config

    repair_mmengine()
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(_missing(path))
    lazy = path.suffix == '.py' and uses_read_base(path.read_text(encoding='utf-8'), path)
    cfg = Config.fromfile(str(path), lazy_import=lazy)
    # Config's own switch: its text is valid Python either way, and the formatter takes half a second each time
    object.__setattr__(cfg, '_format_python_code', False)
    notes: list[str] = []
    if is_v2(cfg):
        values, notes = translate_v2(cfg._cfg_dict.to_dict())
        cfg = Config(values, filename=str(path), format_python_code=False)
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    object.__setattr__(cfg, 'translation_notes', list(dict.fromkeys(notes)))
    return cfg


def uses_read_base(source: str, name: str | Path = '<config>') -> bool:
    """Whether a config is of the lazy kind, which inherits through ``with read_base():``."""
    for node in ast.walk(ast.parse(source, str(name))):
        if isinstance(node, ast.With):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and getattr(call.func, 'id', '') == 'read_base':
                    return True
    return False


def diff_to_base(cfg: Any, path: str | Path, other: str | Path | None = None) -> list[str]:
    """Lines ``+ key = value``, ``- key = value`` for what a config has and another has not.

    Args:
        path: The file of ``cfg``.
        other: The config to compare with; by default the files that ``path`` inherits from.
    """
    from mmdet.engine.config_check import merged_bases

    if other is None:
        before = merged_bases(Path(path))
        if before is None:
            raise ValueError(f'{path} inherits from no other file; name one to compare with')
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
        for key in node:
            yield from _leaves(dict.__getitem__(node, key), f'{where}.{key}' if where else str(key))
    elif isinstance(node, (list, tuple)) and any(isinstance(item, dict) for item in node):
        for index, item in enumerate(node):
            yield from _leaves(item, f'{where}[{index}]')
    else:
        yield where, node


def _missing(path: Path) -> str:
    message = f'There is no config file {str(path)!r}.'
    root = next((parent for parent in path.parents if parent.name == 'configs' and parent.is_dir()), None)
    if root is None:
        root = Path(__file__).resolve().parents[2] / 'configs'
        if not root.is_dir():
            root = path.parent
    if not root.is_dir():
        return message
    known = {}
    for file in sorted(root.rglob('*.py')):
        if '_base_' not in file.parts:
            known.setdefault(file.stem, file)
    near = difflib.get_close_matches(path.stem, list(known), n=3, cutoff=0.6)
    if near:
        message += ' Did you mean ' + ' or '.join(str(known[name]) for name in near) + '?'
    return message


# --------------------------------------------------------------------------------------------------------------------
# Stored configs
_CONTAINERS = {'dict': dict, 'list': list, 'tuple': tuple, 'set': set}
_NUMBERS = {'inf': float('inf'), 'nan': float('nan')}


def parse_stored_config(text: str) -> dict[str, Any]:
    """The config text that a checkpoint carries, read as literals; nothing of it is executed.

    Assignments of literals, ``dict(...)``, ``list``, ``tuple``, ``set`` of literals, signs, sums, ``inf`` and
    ``nan`` are understood.

    Raises:
        ValueError: with the line of the first thing that is anything else, an import or a call for example.
    """
    values: dict[str, Any] = {}
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f'the stored config is not Python text: {error}') from error
    for statement in body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
        if not isinstance(target, ast.Name):
            raise ValueError(f'line {statement.lineno}: {type(statement).__name__} is not allowed in a stored config')
        values[target.id] = _literal(statement.value)
    return values


def _literal(node: ast.AST) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Dict() if None not in node.keys:
            return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
        case ast.List() | ast.Tuple() | ast.Set():
            return _CONTAINERS[type(node).__name__.lower()](_literal(item) for item in node.elts)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            value = _number(_literal(node.operand), node)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.BinOp(op=ast.Add()):
            left, right = _literal(node.left), _literal(node.right)
            if type(left) is type(right) and isinstance(left, (str, list, tuple, int, float)):
                return left + right
        case ast.Name() if node.id in _NUMBERS:
            return _NUMBERS[node.id]
        case ast.Call(func=ast.Name(id='dict')) if len(node.args) <= 1 and all(k.arg for k in node.keywords):
            value = dict(_literal(node.args[0])) if node.args else {}
            return value | {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
        case ast.Call(func=ast.Name(id='list' | 'tuple' | 'set' | 'float')) if (
            len(node.args) <= 1 and not node.keywords
        ):
            value = [_literal(argument) for argument in node.args]
            if node.func.id == 'float' and value and isinstance(value[0], (str, int, float)):
                return float(value[0])
            if node.func.id != 'float' and all(isinstance(v, (list, tuple, set)) for v in value):
                return _CONTAINERS[node.func.id](*value)
    raise ValueError(f'line {getattr(node, "lineno", "?")}: {type(node).__name__} is not allowed in a stored config')


def _number(value: Any, node: ast.AST) -> Any:
    if not isinstance(value, (int, float, complex)):
        raise ValueError(f'line {node.lineno}: a sign before {type(value).__name__} is not allowed in a stored config')
    return value


# --------------------------------------------------------------------------------------------------------------------
# Repairs
def repair_mmengine() -> None:
    """Two repairs: package lookup without ``pkg_resources`` and YAML that cannot run code. May be called often."""
    import mmengine.config.config as module
    from mmengine.fileio import register_handler
    from mmengine.fileio.handlers import BaseFileHandler

    if getattr(module, 'get_installed_path', None) is installed_path:
        return
    # mmengine asks pkg_resources, which setuptools 82 removed; these two names serve ``_base_ = 'pkg::...'``
    module.get_installed_path, module.is_installed = installed_path, is_installed

    class SafeYamlHandler(BaseFileHandler):
        """YAML of plain values only: mmengine's own handler runs constructors named in the file."""

        def load_from_fileobj(self, file, **kwargs):
            import yaml

            return yaml.safe_load(file)

        def dump_to_fileobj(self, obj, file, **kwargs):
            import yaml

            yaml.safe_dump(obj, file, **kwargs)

        def dump_to_str(self, obj, **kwargs):
            import yaml

            return yaml.safe_dump(obj, **kwargs)

    register_handler(['yaml', 'yml'])(SafeYamlHandler)


def installed_path(package: str) -> str:
    """Folder of an installed distribution or importable package.

    Raises:
        ModuleNotFoundError: when there is none.
    """
    for name in (package, *_top_levels(package)):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            return str(next(iter(spec.submodule_search_locations)))
    raise ModuleNotFoundError(f'package {package!r} is not installed', name=package)


def is_installed(package: str) -> bool:
    """Whether a distribution or an importable package of this name exists."""
    if importlib.util.find_spec(package.replace('-', '_')) is not None:
        return True
    return next(_top_levels(package), None) is not None


def _top_levels(package: str) -> Iterator[str]:
    try:
        text = importlib.metadata.distribution(package).read_text('top_level.txt')
    except importlib.metadata.PackageNotFoundError:
        return
    yield from (text or package.replace('-', '_')).split()


def trains_by_winograd(cfg: Any) -> bool:
    """Whether large convolutions train by :mod:`mmdet.ops.winograd` on CPUs; a compiled model keeps its own."""
    return bool(cfg.get('winograd', True)) and not cfg.get('compile')
