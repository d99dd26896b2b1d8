"""The one list that annotation files of every format are read into, and what the readers share."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet.datasets.raw import RawPicture
from mmdet.datasets.reading.report import Finding, Report
from mmdet.datasets.reading.values import LARGEST_COORDINATE, as_number, short
from mmdet.errors import UserError, UserFileError, UserValueError
from mmdet.utils.pictures import PICTURE_SUFFIXES, picture_size

UNSPLIT = ''
"""The split of pictures that the data put into none."""
SPLITS = {
    **dict.fromkeys(('train', 'training', 'train2017', 'train2014'), 'train'),
    **dict.fromkeys(('val', 'valid', 'validation', 'dev', 'val2017', 'val2014'), 'val'),
    **dict.fromkeys(('test', 'testing', 'test2017'), 'test'),
}


@dataclass
class Collection:
    """Pictures with their objects.

    Boxes are (x1, y1, x2, y2) in pixels from 0, where 0 is the left or upper border of the picture; numbers are kept as
    they are in the file, or as its parts of the sides times the sides.

    Attributes:
        root: The folder, to which the names of the pictures are relative.
        format: Name of its reader.
        classes: Their names in the order of their numbers.
        splits: ``'train'``, ``'val'``, ``'test'``, and :data:`UNSPLIT` for pictures of none.
        report: What was repaired, left out and refused.
        notes: What was decided where the files leave it open.
    """

    root: Path
    format: str
    classes: list[str]
    splits: dict[str, list[RawPicture]]
    report: Report = field(default_factory=lambda: Report(''))
    notes: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> list[RawPicture]:
        """Of all splits."""
        return [picture for pictures in self.splits.values() for picture in pictures]

    @property
    def has_masks(self) -> bool:
        """Whether any object has one."""
        return any(box.segmentation for picture in self.pictures for box in picture.boxes)

    def counts(self) -> Counter[str]:
        """Objects of each class."""
        return Counter(str(box.category) for picture in self.pictures for box in picture.boxes)


class Reading:
    """What a reader collects on its way: pictures by split, class names, findings.

    Args:
        root: The folder of the data.
        format: Name of the reader.
    """

    def __init__(self, root: Path, format: str) -> None:
        self.root, self.format = root, format
        self.report = Report(str(root))
        self.index = PictureIndex(root)
        self.splits: dict[str, list[RawPicture]] = {}
        self.notes: list[str] = []

    def picture(
        self, split: str, name: str, near: Iterable[Path] = (), size: tuple[int, int] | None = None
    ) -> RawPicture:
        """A new picture of a split; ``size`` is its (width, height), read from its file where it is not given."""
        path = self.index.find(name, near)
        if size is None and path is not None:
            try:
                size = picture_size(str(path))
            except (OSError, UserError) as error:
                self.add('unreadable size', name, 'the picture', f'cannot be measured: {error}')
        shown = str(path) if path is not None else os.path.join(str(self.root), name)
        picture = RawPicture(relative(shown, self.root), shown, size)
        self.splits.setdefault(split, []).append(picture)
        return picture

    def add(self, kind: str, where: str, entry: str, detail: str, value: Any = None) -> None:
        """Tell the report of a finding."""
        self.report.add(Finding(kind, where, entry, detail, value))

    def corners(self, values: Iterable[Any], where: str, entry: str) -> tuple[float, float, float, float] | None:
        """x1, y1, x2, y2 out of two corners in any order; None where they are no numbers, which is refused."""
        given = list(values)
        found = [as_number(value.strip() if isinstance(value, str) else value) for value in given]
        numbers = [number for number in found if number is not None and abs(number) <= LARGEST_COORDINATE]
        if len(numbers) != 4 or len(given) != 4:
            self.add(
                'unreadable annotation', where, entry, f'has the box {short(given)}, not four finite numbers', given
            )
            return None
        x1, y1, x2, y2 = numbers
        if x1 > x2 or y1 > y2:
            self.add('corners in the other order', where, entry, f'has the corners {short(numbers)}', numbers)
        return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)

    def polygon(self, points: Iterable[Any], where: str, entry: str) -> list[float] | None:
        """x, y, x, y, ... of at least three points; None where they are fewer or no numbers."""
        given = list(points)
        numbers = [as_number(value.strip() if isinstance(value, str) else value) for value in given]
        clean = [number for number in numbers if number is not None and abs(number) <= LARGEST_COORDINATE]
        if len(clean) < len(given) or len(clean) % 2:
            self.add('unreadable polygon', where, entry, f'has the polygon {short(given)}, not pairs of numbers', given)
            return None
        if len(clean) < 6:
            self.add('polygon without three points', where, entry, f'has the polygon {short(given)}', given)
            return None
        return clean

    def collected(self, classes: Iterable[str] | None = None) -> Collection:
        """The collection; without ``classes`` their names are those that occur, in the order of the alphabet.

        Raises:
            UserError: something was refused, or there are no pictures.
        """
        self.report.raise_refused()
        pictures = [picture for group in self.splits.values() for picture in group]
        if not pictures:
            raise UserValueError(f'{str(self.root)!r} was read as {self.format} and lists no pictures')
        self.report.read = dict(pictures=len(pictures), boxes=sum(len(picture.boxes) for picture in pictures))
        occur = {box.category for picture in pictures for box in picture.boxes if box.category is not None}
        names = list(classes) if classes is not None else sorted(occur)
        if occur - set(names):
            raise UserValueError(f'{str(self.root)!r}: objects of {sorted(occur - set(names))}, which no class has')
        return Collection(self.root, self.format, names, self.splits, self.report, self.notes)


def around(polygon: list[float]) -> tuple[float, float, float, float]:
    """The box around the points x, y, x, y, ..."""
    return min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])


def relative(path: str, root: Path) -> str:
    """A path below a folder with slashes, or the whole path of a file that lies elsewhere."""
    inside = os.path.relpath(path, root)
    return path if inside.startswith('..') or os.path.isabs(inside) else inside.replace(os.sep, '/')


def clean_split(name: str) -> str | None:
    """``'train'``, ``'val'`` or ``'test'`` for the names that these go by; None for others."""
    return SPLITS.get(name.strip().lower())


def split_of(path: Path, root: Path) -> str:
    """The split that a folder on the way from the root to a file names, the innermost first."""
    try:
        parts = path.relative_to(root).parts[:-1]
    except ValueError:
        parts = path.parts[:-1]
    return next((found for part in reversed(parts) if (found := clean_split(part))), UNSPLIT)


class PictureIndex:
    """The pictures below a folder, found by what annotations call them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] | None = None
        self._by_stem: dict[str, list[Path]] = {}

    def find(self, name: str, near: Iterable[Path] = ()) -> Path | None:
        """The file of a picture: below one of the folders ``near``, or the one of its name anywhere.

        Paths of other machines are tried with fewer and fewer of their folders, a name without its picture with other
        suffixes.

        Raises:
            UserFileError: several pictures go by this name.
        """
        parts = [part for part in name.replace('\\', '/').split('/') if part not in ('', '.')]
        if not parts:
            return None
        if os.path.isabs(name) and os.path.isfile(name):
            return Path(name)
        for start in range(len(parts)):
            for folder in (*near, self.root):
                path = folder.joinpath(*parts[start:])
                if path.is_file():
                    return path
        known = self._known()
        for candidates in (known.get(_plain(parts[-1]), []), self._by_stem.get(_plain(Path(parts[-1]).stem), [])):
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                inside = [path for path in candidates if any(path.is_relative_to(folder) for folder in near)]
                if len(inside) == 1:
                    return inside[0]
                shown = ' or '.join(str(path) for path in candidates[:3])
                raise UserFileError(f'{str(self.root)!r}: the picture {name!r} may be {shown}')
        return None

    def _known(self) -> dict[str, list[Path]]:
        if self._by_name is None:
            self._by_name = {}
            for path in pictures_below(self.root):
                self._by_name.setdefault(_plain(path.name), []).append(path)
                self._by_stem.setdefault(_plain(path.stem), []).append(path)
        return self._by_name


def _plain(name: str) -> str:
    """A name in small letters, with one code for each: macOS writes an accent as a letter of its own."""
    return unicodedata.normalize('NFC', name).lower()


def files_below(root: Path, *suffixes: str) -> Iterator[Path]:
    """Files with one of the suffixes, in order; hidden folders and links to folders are not entered."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith(('.', '__')))
        for name in sorted(names):
            if name.lower().endswith(suffixes) and not name.startswith('.'):
                yield Path(folder, name)


def pictures_below(root: Path) -> Iterator[Path]:
    """All picture files of a folder."""
    return files_below(root, *PICTURE_SUFFIXES)


def head(path: Path, size: int = 2000) -> bytes:
    """How a file begins."""
    with path.open('rb') as file:
        return file.read(size)
