"""Options that set variables of a config file: they take effect as if they stood in the file, and in its bases.

A Python config uses up its variables while it runs, so a value that is merged in afterwards arrives nowhere. While
options are given, every assignment of such a variable is read as ``name = overridden('name', value)``.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import ImportTransformer, RemoveAssignFromAST

from mmdet.config.keys import OLD_KEYS
from mmdet.config.places import comparable, dotted, look_up, nearest, places_of
from mmdet.config.sections import RUNNER_KEYS
from mmdet.errors import UserValueError

_active: ContextVar[dict[str, Any] | None] = ContextVar('options of variables', default=None)
# read by the runner, but as often a variable that the file puts into its model
_BOTH = {'data_preprocessor'}


def variable_options(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The options by variable: those whose first word is nothing that the runner reads."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        name = key.partition('.')[0]
        if name not in RUNNER_KEYS or name in _BOTH:
            found.setdefault(name, {})[key] = value
    return found


@contextmanager
def setting_variables(options: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Configs that are read inside take these options, as :func:`variable_options` gives them."""
    token = _active.set(options)
    try:
        yield
    finally:
        _active.reset(token)


def overridden(name: str, value: Any) -> Any:
    """What a variable is with the options: called by config files, where they assign it."""
    options = (_active.get() or {})[name]
    if name in options:
        value = copy.deepcopy(options[name])
    nested: dict[str, Any] = {}
    for key, item in options.items():
        *path, last = key.split('.')
        if path:
            node = nested
            for part in path:
                node = node.setdefault(part, {})
            node[last] = copy.deepcopy(item)
    if not nested:
        return value
    start = {} if value is None else value  # None stands for no settings, as in backend_args = None
    try:
        return Config._merge_a_into_b(nested, {name: start}, allow_list_keys=True)[name]
    except (AssertionError, IndexError, KeyError, TypeError) as error:
        raise UserValueError(f'the options {options} do not fit {name} = {value!r}: {error}') from error


class _Assignments(ast.NodeTransformer):
    """Lets the assignments of variables, outside of functions and classes, go through :func:`overridden`."""

    def visit_Assign(self, node: ast.Assign) -> Any:
        match node.targets:
            case [ast.Name(id=name)] if name in (_active.get() or {}):
                call = ast.parse(f'__import__({__name__!r}, fromlist=["_"]).overridden({name!r}, None)', mode='eval')
                assert isinstance(call.body, ast.Call)
                call.body.args[1] = node.value
                node.value = ast.copy_location(call.body, node.value)
                ast.fix_missing_locations(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return node


class ClassicFile(RemoveAssignFromAST):
    """mmengine's pass over a classic config, and ours."""

    def visit_Module(self, node: ast.Module) -> Any:
        """Both passes over a whole file."""
        node = self.generic_visit(node)  # type: ignore[assignment]
        return _Assignments().visit(node) if _active.get() else node


class LazyFile(ImportTransformer):
    """mmengine's pass over a lazy config, and ours."""

    def visit_Module(self, node: ast.Module) -> Any:
        """Both passes over a whole file."""
        node = self.generic_visit(node)  # type: ignore[assignment]
        return _Assignments().visit(node) if _active.get() else node


def lost_options(plain: dict, alone: dict[str, dict], variables: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Options of variables that changed nothing that is read, with a sentence on each.

    Args:
        plain: The config without options.
        alone: By variable, the config with the options of that one.
    """
    lost = {}
    for name, options in variables.items():
        before, after = comparable(plain), comparable(alone[name])
        read = ({*before, *after} & RUNNER_KEYS) - {name} if 'model' in before else {*before, *after} - {name}
        if any(before.get(key) != after.get(key) for key in read):
            continue
        known = name in before
        if all(look_up(before, key.split('.')) == comparable(value) for key, value in options.items()):
            continue  # it has this value without options
        if name in _BOTH and 'data_preprocessor' not in before.get('model', {}):
            continue
        for key, value in options.items():
            if not known:
                near = nearest(name, RUNNER_KEYS | before.keys(), cutoff=0.7)
                hint = f' Did you mean {" or ".join(near)}?' if near else ''
                hint = f' Set {OLD_KEYS[name]}.' if name in OLD_KEYS else hint
                lost[key] = f'there is no {name!r} in the config.{hint}'
                continue
            places = map(dotted, places_of({each: before[each] for each in read}, before[name], inside_text=True))
            hint = 'No section of the config takes the variable.'
            if before[name] and (shown := list(places)):
                hint = f'What the variable was stands in {", ".join(shown[:3])}: set that.'
            lost[key] = f'{value!r} would change nothing. {hint}'
    return lost
