"""A table with a row for each box, as for TensorFlow: picture, class and corners in pixels."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from mmdet.datasets.reading.values import as_number, as_size, short
from mmdet.errors import UserValueError

from ..raw import RawBox, RawPicture
from .collection import Collection, Reading, clean_split, files_below, split_of

COLUMNS = {
    'picture': ('filename', 'file_name', 'image', 'image_path', 'path', 'image_id', 'file', 'img'),
    'class': ('class', 'label', 'name', 'category', 'class_name'),
    'xmin': ('xmin', 'x_min', 'x1', 'left'),
    'ymin': ('ymin', 'y_min', 'y1', 'top'),
    'xmax': ('xmax', 'x_max', 'x2', 'right'),
    'ymax': ('ymax', 'y_max', 'y2', 'bottom'),
    'width': ('width', 'image_width', 'img_width'),
    'height': ('height', 'image_height', 'img_height'),
    'split': ('split', 'set', 'subset'),
}
BARE = ('picture', 'xmin', 'ymin', 'xmax', 'ymax', 'class')
"""The columns of a table without a head."""
NEEDED = BARE


def csv_files(root: Path) -> list[Path]:
    """The tables of a folder, or the file itself, that can be read as boxes."""
    return [path for path in ([root] if root.is_file() else files_below(root, '.csv')) if _columns(path) is not None]


def _columns(path: Path) -> dict[str, int] | None:
    """Place of each column; None where the table has others."""
    head = next(_rows(path, errors='replace'), [])
    names = [name.strip().lower() for name in head]
    found = {}
    for column, known in COLUMNS.items():
        place = next((names.index(name) for name in known if name in names), None)
        if place is not None:
            found[column] = place
    if all(column in found for column in NEEDED):
        return found
    numbers = [as_number(word) is not None or not word.strip() for word in head]
    return dict(zip(BARE, range(6), strict=True)) if numbers == [False, *[True] * 4, False] else None


def _rows(path: Path, errors: str = 'strict') -> Iterator[list[str]]:
    """The rows of a table whose columns stand between commas, semicolons or tabs."""
    with path.open(newline='', encoding='utf-8-sig', errors=errors) as file:
        first = file.readline()
        file.seek(0)
        yield from csv.reader(file, delimiter=max(',;\t', key=first.count))


def read_csv(root: Path) -> Collection:
    """Pictures and boxes. A row without a class and corners is a picture without objects."""
    reading = Reading(root if root.is_dir() else root.parent, 'csv')
    for path in csv_files(root):
        columns = _columns(path)
        assert columns is not None
        pictures: dict[str, RawPicture] = {}
        rows = list(_rows(path))
        first = 0 if as_number(rows[0][columns['xmin']]) is not None else 1
        of_file = split_of(path, reading.root) or clean_split(path.stem.split('_')[0]) or ''
        for number, row in enumerate(rows[first:], start=first + 1):
            if not any(row):
                continue
            if len(row) <= max(columns.values()):
                raise UserValueError(f'{str(path)!r}: row {number} has {len(row)} columns: {short(row)}')
            cell = {column: row[place].strip() for column, place in columns.items()}
            name = cell['picture']
            if name not in pictures:
                size = as_size(cell.get('height'), cell.get('width'))
                split = clean_split(cell.get('split', '')) or of_file
                near = [path.parent, path.parent / 'images', path.parent / path.stem.split('_')[0]]
                pictures[name] = reading.picture(split, name, near, size and (size[1], size[0]))
            values = [cell[key] for key in ('xmin', 'ymin', 'xmax', 'ymax')]
            if not cell['class'] and not any(values):
                continue
            corners = reading.corners(values, str(path), f'row {number}')
            if corners is not None:
                pictures[name].boxes.append(RawBox(corners, cell['class'], f'row {number}'))
    return reading.collected()
