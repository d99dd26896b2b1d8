"""Which label a category of an annotation file gets, and a stop where that is in doubt."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import zip_longest

from mmdet.errors import UserValueError

ORDERS = ('metainfo', 'annotation')


def resolve_classes(
    classes: Sequence[str], categories: Sequence[dict], order: str | None, source: str
) -> tuple[tuple[str, ...], dict[int, int]]:
    """The class names in label order, and the label of each category id.

    MMDetection 3.x numbers by the order of the categories in the file, whatever the order of ``classes``, and passes
    over names that the file lacks. Where both give the same numbers (``classes`` is the file's list or a part of it in
    the same order) nothing needs to be said; else ``order`` must.

    Args:
        classes: ``metainfo['classes']``.
        categories: ``categories`` of the file, each with ``id`` and ``name``.
        order: ``None``: ``classes`` must agree with the file. ``'metainfo'``: the position in ``classes`` is the label;
            names that the file lacks keep their label and have no boxes; categories of one name share a label.
            ``'annotation'``: the order of the file, restricted to ``classes``.
        source: Name of the file, for the message.

    Raises:
        ValueError: the two differ and ``order`` is ``None``, ``order`` is unknown or no name is in the file.
    """
    if order not in (None, *ORDERS):
        raise UserValueError(f"class_order must be None, 'metainfo' or 'annotation', not {order!r}")
    if isinstance(classes, str):
        raise UserValueError(f'metainfo.classes is the string {classes!r}; one class is written ({classes!r},)')
    classes = tuple(classes)
    wanted = set(classes)
    chosen = [category for category in categories if category['name'] in wanted]
    in_file = tuple(category['name'] for category in chosen)
    if order == 'annotation' and in_file:
        names = tuple(dict.fromkeys(in_file))
    elif in_file == classes or (order == 'metainfo' and in_file):
        names = classes
    else:
        raise UserValueError(_difference(classes, categories, source))
    label = {name: i for i, name in enumerate(names)}
    return names, {category['id']: label[category['name']] for category in chosen}


def _difference(classes: tuple[str, ...], categories: Sequence[dict], source: str) -> str:
    names = [str(category['name']) for category in categories]
    lines = [f'metainfo.classes and the categories of {source} differ:']
    width = max(map(len, (*classes, 'metainfo.classes')))
    lines.append(f'  {"label":>5}  {"metainfo.classes":<{width}}  category (id)')
    table = list(zip_longest(classes, categories))
    for i, (ours, theirs) in enumerate(table[:100]):
        right = f'{theirs["name"]} ({theirs["id"]})' if theirs is not None else '-'
        mark = ' ' if theirs is not None and ours == theirs['name'] else '*'
        lines.append(f'{mark} {i:>5}  {ours or "-":<{width}}  {right}')
    if len(table) > 100:
        lines.append(f'  ... {len(table) - 100} more rows')
    missing = [name for name in classes if name not in names]
    for name in missing[:10]:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        lines.append(f'  {name!r} is not in the file' + (f'; nearest: {", ".join(near)}' if near else ''))
    if len(missing) > 10:
        lines.append(f'  ... and {len(missing) - 10} more are not in the file')
    repeated = sorted({name for name in names if names.count(name) > 1 and name in classes})
    if repeated:
        lines.append(f'  named by more than one category: {", ".join(repeated)}')
    if len(missing) == len(classes):
        lines.append(f'No class is in the file. Its own names: metainfo=dict(classes={tuple(names[:20])!r})')
    else:
        lines.append(
            "Say which one rules: class_order='metainfo' (labels follow metainfo.classes; classes that the file lacks "
            "keep their label) or class_order='annotation' (labels follow the file, as in MMDetection 3.x)."
        )
    return '\n'.join(lines)
