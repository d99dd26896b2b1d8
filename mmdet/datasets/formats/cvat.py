"""CVAT XML (1.1) of pictures, and of videos whose frames are files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from mmdet.datasets.reading.values import as_number, as_size, short
from mmdet.errors import UserValueError

from ..raw import RawBox, RawPicture
from ..xml_style import xml_root
from .collection import UNSPLIT, Collection, Reading, around, clean_split, files_below, head, split_of
from .masks import code_of_bitmap


def is_cvat(root: Path) -> bool:
    """Whether a file, or the first XML file of a folder, is one."""
    return bool(cvat_files(root if root.is_file() else next(files_below(root, '.xml'), root)))


def cvat_files(root: Path) -> list[Path]:
    """The XML files of a folder, or the file itself, whose root is ``annotations``."""
    files = [root] if root.is_file() else files_below(root, '.xml')
    return [path for path in files if b'<annotations>' in head(path)]


def read_cvat(root: Path) -> Collection:
    """Pictures and objects; ``subset`` of a picture or the folder of the file tells the split.

    Boxes, polygons and masks are read; polylines, points and other shapes are counted and left out.
    """
    reading = Reading(root if root.is_dir() else root.parent, 'cvat')
    classes: dict[str, None] = {}
    for path in cvat_files(root):
        try:
            parsed = xml_root(path.read_bytes())
        except (ElementTree.ParseError, ValueError) as error:
            raise UserValueError(f'{str(path)!r} is not valid XML: {error}') from None
        labels = [name for item in parsed.iter('label') if (name := (item.findtext('name') or '').strip())]
        classes.update(dict.fromkeys(labels))
        by_frame: dict[str, RawPicture] = {}
        for item in parsed.findall('image'):
            by_frame[str(item.get('id'))] = _picture(item, path, reading)
        _take_tracks(parsed, path, by_frame, reading)
    return reading.collected(classes or None)


def _picture(item: ElementTree.Element, path: Path, reading: Reading) -> RawPicture:
    size = as_size(item.get('height'), item.get('width'))
    subset = item.get('subset') or ''
    split = clean_split(subset) or (UNSPLIT if subset else split_of(path, reading.root))
    near = [folder / name for folder in (path.parent, reading.root) for name in ('images', f'images/{subset}', subset)]
    picture = reading.picture(split, item.get('name') or '', [path.parent, *near], size and (size[1], size[0]))
    for number, shape in enumerate(item, start=1):
        box = _shape(shape, shape.get('label') or '', f'shape {number}', picture, reading)
        if box is not None:
            marks = {item.get('name'): as_number((item.text or '').strip()) for item in shape.findall('attribute')}
            box.crowd, box.difficult = bool(marks.get('iscrowd')), bool(marks.get('difficult'))
            picture.boxes.append(box)
    return picture


def _take_tracks(parsed: ElementTree.Element, path: Path, pictures: dict[str, RawPicture], reading: Reading) -> None:
    width, height = (parsed.findtext(f'.//original_size/{key}') for key in ('width', 'height'))
    size = as_size(height, width)
    for track in parsed.findall('track'):
        for shape in track:
            frame = shape.get('frame') or ''
            if shape.get('outside') == '1' or not frame.isdigit():
                continue
            if frame not in pictures:
                name = f'frame_{int(frame):06d}.PNG'
                pictures[frame] = reading.picture(
                    split_of(path, reading.root),
                    name,
                    [path.parent, path.parent / 'images'],
                    size and (size[1], size[0]),
                )
            entry = f'track {track.get("id")}, frame {frame}'
            box = _shape(shape, track.get('label') or '', entry, pictures[frame], reading)
            if box is not None:
                pictures[frame].boxes.append(box)


def _shape(shape: ElementTree.Element, label: str, entry: str, picture: RawPicture, reading: Reading) -> RawBox | None:
    get = shape.get
    if shape.tag == 'box':
        corners = reading.corners([get(key) for key in ('xtl', 'ytl', 'xbr', 'ybr')], picture.name, entry)
        if corners is None:
            return None
        angle = as_number(get('rotation') or '0') or 0.0
        if angle:
            polygon = _turned(corners, angle)
            return RawBox(around(polygon), label, entry, [polygon])
        return RawBox(corners, label, entry)
    if shape.tag == 'polygon':
        points = [value for pair in (get('points') or '').split(';') for value in pair.split(',')]
        found = reading.polygon(points, picture.name, entry)
        return None if found is None else RawBox(around(found), label, entry, [found])
    if shape.tag == 'mask':
        return _mask(shape, label, entry, picture, reading)
    if shape.tag not in ('tag', 'attribute'):
        reading.report.count('shape of another kind')
    return None


def _turned(corners: tuple[float, float, float, float], degrees: float) -> list[float]:
    """The corners of a box that is turned around its centre, clockwise on the screen."""
    x1, y1, x2, y2 = corners
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]) - centre
    return (points @ turn.T + centre).ravel().tolist()


def _mask(shape: ElementTree.Element, label: str, entry: str, picture: RawPicture, reading: Reading) -> RawBox | None:
    """Run lengths row by row within a rectangle, beginning with the background."""
    rectangle: list[Any] = [as_number(shape.get(key) or '') for key in ('left', 'top', 'width', 'height')]
    runs = [as_number(word) for word in (shape.get('rle') or '').split(',') if word.strip()]
    if None in rectangle or None in runs or picture.size is None:
        reading.add('unreadable run lengths', picture.name, entry, f'has the mask {short(shape.get("rle"))}')
        return None
    left, top, width, height = (int(value) for value in rectangle)
    lengths = np.array(runs, dtype=np.int64)
    if width <= 0 or height <= 0 or (lengths < 0).any() or lengths.sum() != width * height:
        detail = f'has run lengths of {int(lengths.sum())} pixels for a rectangle of {width}x{height}'
        reading.add('unreadable run lengths', picture.name, entry, detail)
        return None
    window = np.repeat(np.arange(len(lengths)) % 2, lengths).astype(np.uint8).reshape(height, width)
    code = code_of_bitmap(window, left, top, (int(picture.size[1]), int(picture.size[0])))
    return RawBox((left, top, left + width, top + height), label, entry, code)
