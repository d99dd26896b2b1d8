"""Where things stand in a config, and which name was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any


def items_of(node: Any) -> Iterable[tuple[Any, Any]]:
    """Keys and values of a dict, list or tuple, without building what a lazy config has not built yet."""
    if isinstance(node, dict):
        return [(key, dict.__getitem__(node, key)) for key in node]
    return enumerate(node) if isinstance(node, (list, tuple)) else ()


def places_of(node: Any, value: Any, where: tuple = (), *, inside_text: bool = False) -> Iterator[tuple]:
    """The paths at which ``value`` stands, or text that contains it."""
    for key, item in items_of(node):
        equal = type(item) is type(value) and item == value
        if equal or (
            inside_text and isinstance(value, str) and isinstance(item, str) and len(value) > 2 and value in item
        ):
            yield (*where, key)
        else:
            yield from places_of(item, value, (*where, key), inside_text=inside_text)


def look_up(node: Any, where: Iterable) -> Any:
    """What stands at a path, None where there is none."""
    for key in where:
        try:
            node = dict.__getitem__(node, key) if isinstance(node, dict) else node[int(key)]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return node


def dotted(where: Iterable) -> str:
    """A path as text: ``a.b[0].c``."""
    text = ''
    for key in where:
        text += f'[{key}]' if isinstance(key, int) else f'.{key}' if text else str(key)
    return text


def comparable(value: Any) -> Any:
    """Plain values that are equal where two configs say the same, what a lazy config imports included."""
    from mmengine.config.lazy import LazyAttr, LazyObject

    if isinstance(value, (LazyObject, LazyAttr)):
        return f'{value.module}.{value}'
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in items_of(value)}
    return [comparable(item) for item in value] if isinstance(value, (list, tuple)) else value


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """The known names that ``name`` may have been meant to be, best first."""
    names = sorted(set(known) - {name})
    lower = name.lower()
    same = [each for each in names if _letters(each) == _letters(name)]
    short = [each for each in names if _initials(name) == each or (len(name) > 1 and lower == _initials(each))]
    # learning_rate is lr, score_threshold is score_thr
    starts = [
        each
        for each in names
        if len(each) > 3 and (lower.startswith(each) or (each.startswith(lower) and len(name) > 3))
    ]
    by_lower = {each.lower(): each for each in names}
    close = [by_lower[each] for each in difflib.get_close_matches(lower, by_lower, n=3, cutoff=cutoff)]
    return list(dict.fromkeys([*same, *short, *close, *starts]))[:3]


def _letters(name: str) -> str:
    return re.sub('[^a-z0-9]', '', name.lower())


def _initials(name: str) -> str:
    words = [word for word in re.split('[_-]', name.lower()) if word]
    return ''.join(word[0] for word in words) if len(words) > 1 else ''


def paths_to(node: Any, key: str, where: tuple = ()) -> Iterator[tuple]:
    """The paths at which a dict has ``key``."""
    for name, item in items_of(node):
        if name == key and isinstance(node, dict):
            yield (*where, name)
        yield from paths_to(item, key, (*where, name))
