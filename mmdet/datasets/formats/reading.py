"""Which format a folder or file is in, and its reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmdet.errors import UserFileError, UserValueError

from .coco import coco_files, read_coco
from .collection import Collection, files_below, pictures_below
from .csv_table import csv_files, read_csv
from .cvat import is_cvat, read_cvat
from .fiftyone import fiftyone_files, read_fiftyone
from .label_studio import label_studio_files, read_label_studio
from .labelme import is_labelme, read_labelme
from .voc import is_voc, read_voc
from .yolo import is_yolo, read_yolo, yolo_file

READERS: dict[str, Callable[[Path], Collection]] = {
    'coco': read_coco,
    'yolo': read_yolo,
    'voc': read_voc,
    'cvat': read_cvat,
    'labelme': read_labelme,
    'label-studio': read_label_studio,
    'csv': read_csv,
    'fiftyone': read_fiftyone,
}
# In this order: what is told by its name before what is told by its content.
_SIGNS: list[tuple[str, Callable[[Path], object]]] = [
    ('yolo', yolo_file),
    ('coco', coco_files),
    ('cvat', is_cvat),
    ('voc', is_voc),
    ('fiftyone', fiftyone_files),
    ('labelme', is_labelme),
    ('label-studio', label_studio_files),
    ('csv', csv_files),
    ('yolo', is_yolo),
]
_BY_SUFFIX = {
    '.json': ('coco', 'fiftyone', 'label-studio'),
    '.xml': ('cvat',),
    '.csv': ('csv',),
    '.yaml': ('yolo',),
    '.yml': ('yolo',),
}


def detect_format(path: Path) -> str:
    """The name of the reader for a folder or an annotation file.

    Raises:
        UserFileError: there is nothing at the path.
        UserValueError: no reader knows what is there, with what that is.
    """
    if not path.exists():
        raise UserFileError(f'there is no data {str(path)!r}')
    among = _BY_SUFFIX.get(path.suffix.lower(), ()) if path.is_file() else tuple(READERS)
    for name, shows in _SIGNS:
        if name in among and shows(path):
            return name
    if path.is_file():
        raise UserValueError(f'{str(path)!r} is no annotation file that is known; {_known()}')
    pictures = sum(1 for _ in pictures_below(path))
    others = sorted({file.suffix for file in files_below(path, '.json', '.xml', '.csv', '.txt', '.yaml', '.yml')})
    there = f'{pictures} pictures' + (f' and files {", ".join(others)}' if others else ' and no annotations')
    raise UserValueError(f'{str(path)!r} holds {there}, in no format that is known; {_known()}')


def _known() -> str:
    return f'formats are {", ".join(READERS)}'


def read_data(path: str | Path, format: str | None = None) -> Collection:
    """The pictures and objects of a folder or an annotation file.

    Args:
        format: One of :data:`READERS`; by default what the files look like.

    Raises:
        UserError: naming the file, the entry and the value, where an annotation has no meaning.
    """
    path = Path(path).expanduser().absolute()
    if format is not None and format not in READERS:
        raise UserValueError(f'there is no format {format!r}; {_known()}')
    if not path.exists():
        raise UserFileError(f'there is no data {str(path)!r}')
    return READERS[format or detect_format(path)](path)
