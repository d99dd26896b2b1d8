"""The config text that a checkpoint carries: parsed as literals, never executed."""

from __future__ import annotations

import ast
from typing import Any

from mmdet.errors import UserValueError

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
        raise UserValueError(f'the stored config is not Python text: {error}') from error
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                values[name] = _literal(statement.value)
            case _:
                raise UserValueError(
                    f'line {statement.lineno}: {type(statement).__name__} is not allowed in a stored config'
                )
    return values


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Dict(keys=keys) if None not in keys:
            values = map(_literal, node.values)
            return {_literal(key): value for key, value in zip(keys, values, strict=True) if key is not None}
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
        case ast.Call(func=ast.Name(id='list' | 'tuple' | 'set' | 'float' as name)) if (
            len(node.args) <= 1 and not node.keywords
        ):
            value = [_literal(argument) for argument in node.args]
            if name == 'float' and value and isinstance(value[0], (str, int, float)):
                return float(value[0])
            if name != 'float' and all(isinstance(v, (list, tuple, set)) for v in value):
                return _CONTAINERS[name](*value)
    raise UserValueError(f'line {node.lineno}: {type(node).__name__} is not allowed in a stored config')


def _number(value: Any, node: ast.expr) -> Any:
    if not isinstance(value, (int, float, complex)):
        raise UserValueError(
            f'line {node.lineno}: a sign before {type(value).__name__} is not allowed in a stored config'
        )
    return value
