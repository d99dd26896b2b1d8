"""The config files that come with the package, in a checkout or in an installation, and the names they go by.

Only the standard library is imported here, so that a command line can list them at once.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mmdet.errors import UserFileError, UserValueError

PREFIX = 'mmdet::'
SUFFIXES = ('.py', '.json', '.yml', '.yaml')
PACKAGE = Path(__file__).resolve().parents[1]
APART = ('_base_', 'quickstart', 'common')
"""Folders whose configs are found by their whole names only."""


@functools.cache
def config_root() -> Path:
    """The folder of our configs: beside the package in a checkout, ``mmdet/.mim/configs`` in an installation.

    Raises:
        UserFileError: there is neither.
    """
    places = PACKAGE.parent / 'configs', PACKAGE / '.mim' / 'configs'
    for place in places:
        if (place / '_base_' / 'default_runtime.py').is_file():
            return place
    raise UserFileError(f'the configs of mmdet are neither in {places[0]} nor in {places[1]}: install the package anew')


@functools.cache
def config_files() -> dict[str, Path]:
    """The files of our configs by name, what only other configs inherit from left out; empty where there are none."""
    try:
        root = config_root()
    except UserFileError:
        return {}
    return {file.stem: file for file in sorted(root.rglob('*.py')) if '_base_' not in file.relative_to(root).parts}


def packaged_config(name: str) -> Path:
    """The file of ``mmdet::family/config.py``.

    Raises:
        UserFileError: there is none, with the nearest ones.
    """
    inner = PurePosixPath(name.removeprefix(PREFIX).replace('\\', '/'))
    if inner.is_absolute() or '..' in inner.parts:
        raise UserValueError(f'{name!r} leads out of the configs of mmdet; write {PREFIX}family/config.py')
    root = config_root()
    path = root.joinpath(*inner.parts)
    if path.is_file():
        return path
    if path.with_suffix('.py').is_file():
        return path.with_suffix('.py')
    known = {file.relative_to(root).as_posix() for file in root.rglob('*.py')}
    by_stem = [each for each in known if PurePosixPath(each).stem == inner.stem]
    near = by_stem or difflib.get_close_matches(str(inner), known, n=3, cutoff=0.6)
    hint = f' Did you mean {" or ".join(PREFIX + each for each in near)}?' if near else ''
    raise UserFileError(f'there is no config {name!r} in {root}.{hint}')


def find_config(name: str) -> Path:
    """The file of a config that is given by its name: the whole one, or enough of its beginning.

    ``rtmdet-tiny`` (or ``rtmdet-t``) and ``atss_r50`` are the configs with the fewest further words; hyphens and
    underscores are alike.

    Raises:
        UserFileError: with the nearest names, or those that it may be short for.
    """
    known = config_files()
    stem = name.removesuffix('.py')
    if stem in known:
        return known[stem]
    words = _words(stem)
    by_words = {each: _words(each) for each in known}
    same = [each for each, other in by_words.items() if other == words]
    if len(same) == 1:
        return known[same[0]]
    usual = {
        each: other
        for each, other in by_words.items()
        if known[each].parent.name not in APART and not each.endswith('_tta')
    }
    for fits in (_begins, _nearly_begins, _contains):
        longer = [each for each, other in usual.items() if words and fits(words, other)]
        fewest = min((len(usual[each]) for each in longer), default=0)
        shortest = [each for each in longer if len(usual[each]) == fewest]
        standard = [each for each in shortest if _is_standard(usual[each], known[each].parent.name)]
        on_coco = [each for each in shortest if usual[each][-1] == 'coco']
        for chosen in (shortest, standard, on_coco):
            if len(chosen) == 1:
                return known[chosen[0]]
        if longer:
            raise UserFileError(f'{name!r} may be short for {_listed(shortest)}: write more of the name')
    beginnings: dict[str, str] = {}  # as many words as there are in the name
    for each, other in sorted(usual.items(), key=lambda item: len(item[1])):
        beginnings.setdefault('-'.join(other[: len(words)]), each)
    near = [beginnings[each] for each in difflib.get_close_matches('-'.join(words), beginnings, n=3, cutoff=0.7)]
    near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f' Did you mean {" or ".join(near)}?' if near else ''
    raise UserFileError(f'{name!r} is neither a config file nor the name of one of our configs.{hint}')


def _words(name: str) -> list[str]:
    return [word for word in re.split('[-_]', name.lower()) if word]


def _is_standard(words: list[str], family: str) -> bool:
    """Whether a config is of its family's own folder and trains for twelve epochs on COCO."""
    return _begins(_words(family), words) and words[-1] == 'coco' and words[-2] in ('1x', '12e')


def _begins(words: list[str], other: list[str]) -> bool:
    return other[: len(words)] == words


def _nearly_begins(words: list[str], other: list[str]) -> bool:
    """The last word may be cut: ``t`` is ``tiny``."""
    return len(other) >= len(words) > 1 and _begins(words[:-1], other) and other[len(words) - 1].startswith(words[-1])


def _contains(words: list[str], other: list[str]) -> bool:
    """The first word is the same and the others come in their order: ``dfine-s`` is ``dfine_hgnetv2-s``."""
    left = iter(other)
    return words[0] == other[0] and all(word in left for word in words)


def _listed(names: Iterable[str], limit: int = 6) -> str:
    names = sorted(names)
    return ', '.join(names[:limit]) + (f' and {len(names) - limit} more' if len(names) > limit else '')


def is_name(path: str | Path) -> bool:
    """Whether a config is given by its name, or as one of the package, and not as a file."""
    text = str(path)
    file = Path(path).expanduser()
    return text.startswith(PREFIX) or not (file.suffix in SUFFIXES or file.exists() or len(file.parts) > 1)


def resolve_config(path: str | Path) -> Path:
    """A config given as a file, as ``mmdet::family/config.py``, or by its name, as the path of its file.

    What looks like a file is given back as it is, whether it is there or not.
    """
    text = str(path)
    if text.startswith(PREFIX):
        return packaged_config(text)
    return find_config(text) if is_name(path) else Path(path).expanduser()
