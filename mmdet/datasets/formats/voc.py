"""PASCAL VOC XML: one file for each picture, in whatever folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mmdet.datasets.reading.values import as_flag, as_size

from ..raw import RawBox
from ..xml_style import xml_root
from .collection import Collection, Reading, clean_split, files_below, head, split_of


def is_voc(root: Path) -> bool:
    """Whether a folder has an XML file whose root is ``annotation``."""
    first = next(files_below(root, '.xml'), None)
    return first is not None and b'<annotation' in head(first) and b'<annotations' not in head(first)


def read_voc(root: Path) -> Collection:
    """Pictures of a folder with VOC XML files; lists under ``ImageSets/Main`` or names of folders tell the splits.

    Coordinates count from 1, unless a box of the folder begins at 0. Objects marked difficult are kept as such.
    """
    reading = Reading(root, 'voc')
    lists = _lists(root, reading)
    boxes: list[RawBox] = []
    for path in files_below(root, '.xml'):
        parsed = _parse(path, reading)
        if parsed is None:
            continue
        splits = lists.get(path.stem, []) if lists else [split_of(path, root)]
        if not splits:
            continue
        size = as_size(*((parsed.findtext(f'size/{key}') or '').strip() for key in ('height', 'width')))
        near = [path.parent, *(path.parent.parent / name for name in ('JPEGImages', 'images', 'Images'))]
        named = (parsed.findtext('filename') or path.stem).strip()
        found = _objects(parsed, path, reading)
        for split in splits:
            name = named if Path(named.replace('\\', '/')).stem == path.stem else path.stem
            picture = reading.picture(split, name, near, None if size is None else (size[1], size[0]))
            picture.boxes += found
        boxes += found
    from_one = not any(min(box.xyxy[:2]) < 1 for box in boxes)
    if boxes and not from_one:
        reading.notes.append('boxes begin at 0, so coordinates are taken to count from 0, not from 1 as in PASCAL VOC')
    elif boxes:
        for box in {id(box): box for box in boxes}.values():
            x1, y1, x2, y2 = box.xyxy
            box.xyxy = x1 - 1, y1 - 1, x2 - 1, y2 - 1
            box.segmentation = box.segmentation and [[value - 1 for value in part] for part in box.segmentation]
    return reading.collected()


def _lists(root: Path, reading: Reading) -> dict[str, list[str]]:
    """Splits by id of a picture; ``trainval`` stands for both where there is a test list and it is the larger one."""
    found: dict[str, list[str]] = {}
    ids: dict[str, list[str]] = {}
    for path in files_below(root, '.txt'):
        if path.parent.name == 'Main' and path.parent.parent.name == 'ImageSets':
            name = 'trainval' if path.stem == 'trainval' else clean_split(path.stem)
            if name is not None:
                lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
                ids.setdefault(name, []).extend(line.split()[0] for line in lines if line.strip())
    if 'trainval' in ids and 'train' not in ids:
        ids['train'] = ids['trainval']
    elif 'trainval' in ids and 'val' in ids:
        others = sorted(set(ids['trainval']) - {*ids['train'], *ids['val']})
        if others:
            reading.notes.append(
                f'{len(others)} pictures of trainval.txt are in neither train.txt nor val.txt: left out'
            )
    for split in ('train', 'val', 'test'):
        for each in ids.get(split, ()):
            if split not in found.setdefault(each, []):
                found[each].append(split)
    return found


def _parse(path: Path, reading: Reading) -> ElementTree.Element | None:
    try:
        parsed = xml_root(path.read_bytes())
    except (ElementTree.ParseError, ValueError) as error:
        reading.add('unreadable annotation', str(path), 'the file', f'is not valid XML: {error}')
        return None
    return parsed if parsed.tag == 'annotation' else None


def _objects(parsed: ElementTree.Element, path: Path, reading: Reading) -> list[RawBox]:
    found: list[RawBox] = []
    for number, item in enumerate(parsed.findall('object'), start=1):
        name = (item.findtext('name') or '').strip()
        entry = f'object {number}, {name or "without a name"}'
        polygon = _polygon(item)
        segmentation = None
        if polygon:
            clean = reading.polygon(polygon, str(path), entry)
            segmentation = None if clean is None else [clean]
        values = [item.findtext(f'bndbox/{key}') for key in ('xmin', 'ymin', 'xmax', 'ymax')]
        corners = reading.corners(values, str(path), entry)
        if not name:
            reading.add('unreadable annotation', str(path), entry, 'has no name')
        elif corners is not None:
            difficult = bool(as_flag(item.findtext('difficult')))
            found.append(RawBox(corners, name, f'object {number}', segmentation, difficult=difficult))
    return found


def _polygon(item: ElementTree.Element) -> list[Any]:
    """``x1``, ``y1``, ``x2``, ``y2``, ... of the element that some tools write beside the box."""
    polygon = item.find('polygon')
    values: list[Any] = []
    while polygon is not None:
        number = len(values) // 2 + 1
        x, y = polygon.findtext(f'x{number}'), polygon.findtext(f'y{number}')
        if x is None or y is None:
            break
        values += [x, y]
    return values
