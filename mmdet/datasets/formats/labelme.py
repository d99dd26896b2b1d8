"""LabelMe: a JSON file of shapes beside each picture."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mmdet.datasets.reading.values import as_size
from mmdet.errors import UserValueError

from ..raw import RawBox
from .collection import Collection, Reading, around, files_below, split_of

CORNERS_OF_A_CIRCLE = 32


def is_labelme(root: Path) -> bool:
    """Whether the first JSON file of a folder has shapes."""
    first = next(files_below(root, '.json'), None)
    return first is not None and b'"shapes"' in first.read_bytes() and b'"imagePath"' in first.read_bytes()


def read_labelme(root: Path) -> Collection:
    """Pictures and objects: rectangles, polygons and circles; other shapes are counted and left out."""
    reading = Reading(root, 'labelme')
    for path in files_below(root, '.json'):
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            reading.add('unreadable annotation', str(path), 'the file', f'is not valid JSON: {error}')
            continue
        if not isinstance(content, dict) or not isinstance(content.get('shapes'), list):
            continue
        size = as_size(content.get('imageHeight'), content.get('imageWidth'))
        named = str(content.get('imagePath') or path.stem)
        near = [path.parent, path.parent.parent / 'images']
        name = named if reading.index.find(named, near) is not None else path.stem
        picture = reading.picture(split_of(path, root), name, near, size and (size[1], size[0]))
        for number, shape in enumerate(content['shapes'], start=1):
            box = _shape(shape, number, path, reading)
            if box is not None:
                picture.boxes.append(box)
    return reading.collected()


def _shape(shape: Any, number: int, path: Path, reading: Reading) -> RawBox | None:
    if not isinstance(shape, dict) or 'label' not in shape or not isinstance(shape.get('points'), list):
        raise UserValueError(f'{str(path)!r}: shape {number} has no label or points')
    label, kind = str(shape['label']), shape.get('shape_type') or 'polygon'
    where, entry = str(path), f'shape {number}, {label}'
    values = [value for point in shape['points'] if isinstance(point, (list, tuple)) for value in point]
    if kind == 'rectangle':
        if len(values) == 8:  # newer versions write all four corners
            values = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
        corners = reading.corners(_sorted(values), where, entry)
        return None if corners is None else RawBox(corners, label, entry)
    if kind == 'circle' and len(values) == 4:
        x, y, on_x, on_y = values
        radius = math.hypot(on_x - x, on_y - y)
        angles = [2 * math.pi * step / CORNERS_OF_A_CIRCLE for step in range(CORNERS_OF_A_CIRCLE)]
        points = [value for angle in angles for value in (x + radius * math.cos(angle), y + radius * math.sin(angle))]
        return RawBox((x - radius, y - radius, x + radius, y + radius), label, entry, [points])
    if kind == 'polygon':
        polygon = reading.polygon(values, where, entry)
        return None if polygon is None else RawBox(around(polygon), label, entry, [polygon])
    reading.report.count('shape of another kind')
    return None


def _sorted(values: list[Any]) -> list[Any]:
    """A rectangle may be drawn from any of its corners, which is no mistake."""
    if len(values) != 4 or not all(isinstance(value, (int, float)) for value in values):
        return values
    x1, y1, x2, y2 = values
    return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
