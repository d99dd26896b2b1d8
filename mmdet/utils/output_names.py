"""Names of the files that are written about pictures: drawings, predictions, charts. The one place that makes them."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

WRITABLE = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
RESERVED = {'con', 'prn', 'aux', 'nul', *(f'{port}{n}' for port in ('com', 'lpt') for n in '123456789')}
LONGEST = 160  # bytes of one part; file systems take 255, and others add to a name
_GIVING = threading.Lock()  # one for all, so that who holds names can be copied and pickled
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')


class OutputNames:
    """A name for each picture, relative to the folder that is written to, with ``/`` between sub-folders.

    No two pictures get the same, letters of another case and composed letters counted as the same; a picture gets the
    same whenever it is asked for. Below ``root`` a picture keeps its sub-folders, elsewhere it has its own name alone.
    Where that is taken, or holds characters that some system does not take, a part of the path's digest is appended.
    Names may be asked for by several threads.

    Args:
        by_stem: Tell names apart without their suffixes, since ``1.json`` is written for ``1.jpg`` and ``1.png``.
    """

    def __init__(self, root: str | os.PathLike | None = None, by_stem: bool = False) -> None:
        self.root = location(root) if root else None
        self.by_stem = by_stem
        self._given: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def __call__(self, path: str | os.PathLike, tag: str = '') -> str:
        """The name of a picture file or URL, for a drawing; ``tag`` comes after its stem."""
        with _GIVING:
            return self._give(os.fspath(path), tag, self.root)

    def reserve(self, paths: Iterable[str | os.PathLike]) -> list[str]:
        """Names of several pictures: their own, or with the folders below the one common to all where two are equal."""
        given = [os.fspath(path) for path in paths]
        places = {path: location(path) for path in given}
        own = {self._key(*_split_suffix(place.rpartition('/')[2])) for place in places.values()}
        root = self.root
        if root is None and len(own) < len(set(places.values())):
            root = common_folder(place.rpartition('/')[0] for place in places.values())
        with _GIVING:
            return [self._give(path, '', root) for path in given]

    def _give(self, path: str, tag: str, root: str | None) -> str:
        place = location(path)
        identity = path if '://' in path else place
        if (identity, tag) not in self._given:
            inside = root is not None and place.startswith(f'{root.rstrip("/")}/')
            relative = place[len(root.rstrip('/')) + 1 :] if root is not None and inside else place.rpartition('/')[2]
            *folders, last = relative.lstrip('/').split('/')
            stem, suffix = _split_suffix(last)
            wanted = [*folders, stem + tag]
            *safe_folders, safe = map(safe_name, wanted)
            folder = ''.join(f'{part}/' for part in safe_folders)
            digest, length = hashlib.sha1((identity + tag).encode('utf-8', 'surrogateescape')).hexdigest(), 8
            stem = safe if [*safe_folders, safe] == wanted else f'{safe}-{digest[:length]}'
            while self._key(folder + stem, suffix) in self._taken:
                stem, length = f'{safe}-{digest[:length]}', length + 8
            self._taken.add(self._key(folder + stem, suffix))
            self._given[identity, tag] = f'{folder}{stem}{suffix}'
        return self._given[identity, tag]

    def _key(self, stem: str, suffix: str) -> str:
        return unicodedata.normalize('NFC', stem if self.by_stem else stem + suffix).casefold()


def location(path: str | os.PathLike) -> str:
    """An absolute path with ``/`` between its parts; of a URL what stands before the query."""
    path = os.fspath(path)
    if '://' not in path:
        return os.path.abspath(path).replace(os.sep, '/')
    url = urlsplit(path)
    return f'{url.scheme}://{url.netloc}{unquote(url.path)}'


def _split_suffix(name: str) -> tuple[str, str]:
    """Stem, and the suffix that a drawing is written with: that of the picture where one can write it."""
    stem, suffix = os.path.splitext(name)
    return stem, suffix if suffix.lower() in WRITABLE else '.jpg'


def safe_name(name: str) -> str:
    """One part of a path with what some system does not take in it replaced: characters, reserved and endless names."""
    safe = _UNSAFE.sub('_', name.encode('utf-8', 'replace').decode()).strip(' ')
    safe = safe.rstrip('. ') or '_'
    if safe.split('.')[0].strip().lower() in RESERVED:
        safe = f'_{safe}'
    while len(safe.encode()) > LONGEST:
        safe = safe[: max(len(safe) - max((len(safe.encode()) - LONGEST) // 4, 1), 1)]
    return safe


def on_one_line(name: str) -> str:
    """A name for a terminal: line breaks, control characters and bytes that are no text are written as escapes."""
    return name if name.isprintable() else ''.join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def common_folder(folders: Iterable[str]) -> str | None:
    """The innermost of :func:`location` that holds all; None where there is none, as for two drives or sites."""
    common: list[str] = []
    for parts in zip(*(folder.split('/') for folder in folders)):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return '/'.join(common) or ('/' if common else None)
