"""Label Studio's JSON and JSON-MIN exports."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mmdet.datasets.reading.values import as_number, as_size, short
from mmdet.errors import UserValueError

from ..raw import RawBox, RawPicture
from .collection import UNSPLIT, Collection, Reading, around, files_below, split_of

_KINDS = ('rectanglelabels', 'polygonlabels', 'rectangle', 'polygon')


def label_studio_files(root: Path) -> list[Path]:
    """The JSON files of a folder, or the file itself, that are lists of tasks."""
    found = []
    for path in [root] if root.is_file() else files_below(root, '.json'):
        text = path.read_bytes()
        if text.lstrip()[:1] == b'[' and (b'"annotations"' in text or b'"original_width"' in text):
            found.append(path)
    return found


def read_label_studio(root: Path) -> Collection:
    """Pictures and objects: rectangles and polygons, in percent of the sides; other results are counted and left out.

    Of several annotations of a task the first is taken that is not cancelled, one marked as ground truth before others.
    """
    reading = Reading(root if root.is_dir() else root.parent, 'label-studio')
    for path in label_studio_files(root):
        try:
            tasks = json.loads(path.read_bytes())
        except ValueError as error:
            raise UserValueError(f'{str(path)!r} is not valid JSON: {error}') from None
        split = split_of(path, reading.root) or split_of(Path(path.stem, 'x'), Path())
        for number, task in enumerate(tasks, start=1):
            if not isinstance(task, dict):
                raise UserValueError(f'{str(path)!r}: task {number} is {short(task)}, not an object')
            results = _results(task)
            address = _address(task, path, number)
            size = _size(results)
            picture = reading.picture(split or UNSPLIT, _file_name(address, reading), [path.parent / 'images'], size)
            for index, result in enumerate(results, start=1):
                box = _object(result, f'task {task.get("id", number)}, result {index}', picture, reading)
                if box is not None:
                    picture.boxes.append(box)
    return reading.collected()


def _results(task: dict) -> list[dict]:
    annotations = task.get('annotations')
    if isinstance(annotations, list):
        valid = [each for each in annotations if isinstance(each, dict) and not each.get('was_cancelled')]
        best = next((each for each in valid if each.get('ground_truth')), valid[0] if valid else {})
        return [each for each in best.get('result') or () if isinstance(each, dict)]
    flat = [value for value in task.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return [
        {
            'value': each,
            'original_width': each.get('original_width'),
            'original_height': each.get('original_height'),
            'type': next((kind for kind in _KINDS if kind in each), ''),
        }
        for each in (flat[0] if flat else ())
    ]


def _address(task: dict, path: Path, number: int) -> str:
    inner = task.get('data')
    data: dict = inner if isinstance(inner, dict) else task
    for key in ('image', 'img', 'url', 'ocr'):
        if isinstance(data.get(key), str):
            return data[key]
    found = next((value for value in data.values() if isinstance(value, str) and re.search(r'\.\w{3,4}$', value)), None)
    if found is None:
        raise UserValueError(f'{str(path)!r}: task {number} names no picture: {short(data)}')
    return found


def _file_name(address: str, reading: Reading) -> str:
    """The name of the picture's file: an upload has eight random digits before the name that it had."""
    parts = urlsplit(address)
    name = unquote(parse_qs(parts.query).get('d', [parts.path])[0]).lstrip('/')
    plain = re.sub(r'^[0-9a-f]{8}-', '', name.rpartition('/')[2])
    candidates = [name, plain, plain.replace('_', ' ')]
    return next((each for each in candidates if reading.index.find(each) is not None), name)


def _size(results: list[dict]) -> tuple[int, int] | None:
    for result in results:
        size = as_size(result.get('original_height'), result.get('original_width'))
        if size is not None:
            return size[1], size[0]
    return None


def _object(result: dict, entry: str, picture: RawPicture, reading: Reading) -> RawBox | None:
    inner = result.get('value')
    value: dict = inner if isinstance(inner, dict) else {}
    kind = str(result.get('type') or '').lower()
    if kind not in _KINDS:
        if kind not in ('choices', 'labels', ''):
            reading.report.count('shape of another kind')
        return None
    named = next((value[key] for key in (*_KINDS, 'labels') if isinstance(value.get(key), list) and value[key]), None)
    if named is None:
        reading.add('unreadable annotation', picture.name, entry, f'has no label: {short(value)}')
        return None
    if picture.size is None:
        reading.add('unreadable annotation', picture.name, entry, 'is of a picture whose size is not known')
        return None
    width, height = picture.size
    if 'points' in value:
        points = [part for point in value['points'] for part in point]
        polygon = reading.polygon(points, picture.name, entry)
        if polygon is None:
            return None
        polygon = [part * (width, height)[i % 2] / 100 for i, part in enumerate(polygon)]
        return RawBox(around(polygon), str(named[0]), entry, [polygon])
    numbers: list[Any] = [as_number(value.get(key)) for key in ('x', 'y', 'width', 'height')]
    if None in numbers:
        reading.add('unreadable annotation', picture.name, entry, f'has the rectangle {short(value)}', value)
        return None
    x, y, w, h = (number * side / 100 for number, side in zip(numbers, (width, height) * 2, strict=True))
    angle = math.radians(as_number(value.get('rotation', 0)) or 0)
    if angle:  # around the upper left corner, clockwise
        across, down = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
        steps = ((0, 0), (w, 0), (w, h), (0, h))
        polygon = [(x, y)[i] + a * across[i] + b * down[i] for a, b in steps for i in (0, 1)]
        return RawBox(around(polygon), str(named[0]), entry, [polygon])
    return RawBox((x, y, x + w, y + h), str(named[0]), entry)
