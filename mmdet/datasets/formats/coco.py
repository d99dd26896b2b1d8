"""COCO JSON, in one file or one for each split; among them the folders that Roboflow exports."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from mmdet.datasets.reading.coco_file import CocoCheck, name_of, read_json
from mmdet.errors import UserFileError
from mmdet.utils.pictures import picture_size

from ..raw import RawBox, RawPicture
from .collection import UNSPLIT, Collection, Reading, clean_split, files_below, split_of

_HEAD = 1 << 16


def coco_files(root: Path) -> list[Path]:
    """The files of a folder, or the file itself, that look like COCO's."""
    return [path for path in ([root] if root.is_file() else files_below(root, '.json')) if _is_coco(path)]


def _is_coco(path: Path) -> bool:
    """Whether a JSON file is an object with ``images`` and ``categories``; of a large one only the ends are read."""
    with path.open('rb') as file:
        head = file.read(_HEAD)
        file.seek(max(path.stat().st_size - _HEAD, 0))
        ends = head + file.read()
    if head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] != b'{' or b'"shapes"' in head:
        return False
    if b'"images"' in ends and b'"categories"' in ends:
        return True
    if path.stat().st_size <= 2 * _HEAD:
        return False
    try:
        content = json.loads(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except ValueError:
        return False
    return isinstance(content, dict) and {'images', 'categories'} <= content.keys()


def read_coco(root: Path) -> Collection:
    """Pictures and objects of the COCO files of a folder, or of one file.

    A first category without objects that is the ``supercategory`` of all others, as Roboflow writes, is no class.
    """
    files = coco_files(root)
    reading = Reading(root if root.is_dir() else root.parent, 'coco')
    contents = {path: _read_file(path, reading) for path in files}
    used = {ann['category_id'] for content in contents.values() for ann in content['annotations']}
    classes: dict[str, None] = {}
    for content in contents.values():
        categories = content['categories']
        others = categories[1:]
        first = categories[0] if categories else {}
        if others and first['id'] not in used and all(x.get('supercategory') == first['name'] for x in others):
            reading.notes.append(f'{first["name"]!r} is the group of the other categories, so it is no class')
            categories = others
        classes.update(dict.fromkeys(category['name'] for category in categories))
    seen: set[str] = set()
    for path, content in contents.items():
        split = _split_of_file(path, reading.root)
        _take(content, path, split, reading)
        seen.add(split)
    reading.notes = list(dict.fromkeys(reading.notes))
    if UNSPLIT in seen and len(seen) > 1:
        reading.notes.append('files that name no split were read beside those of splits')
    return reading.collected(classes)


def _read_file(path: Path, reading: Reading) -> dict[str, Any]:
    content = read_json(str(path))
    report = reading.report
    source, report.source = report.source, str(path)
    check = CocoCheck(content, report)

    def measured(image: dict) -> dict[str, int] | None:
        found = reading.index.find(str(image['file_name']), _near(path))
        if found is None:
            raise UserFileError(f'there is no picture {image["file_name"]!r}')
        width, height = picture_size(str(found))
        return dict(height=height, width=width)

    check.sizes(measured)
    entries = check.entries(content.get('annotations') or [])
    content['annotations'] = check.masks(check.boxes(entries))
    report.source = source
    return content


def _take(content: dict, path: Path, split: str, reading: Reading) -> None:
    names = {category['id']: category['name'] for category in content['categories']}
    pictures: dict[Any, RawPicture] = {}
    for image in content['images']:
        size = (image['width'], image['height']) if 'width' in image and 'height' in image else None
        pictures[image['id']] = reading.picture(split, image['file_name'], _near(path), size)
    for number, ann in enumerate(content['annotations']):
        picture, name = pictures.get(ann['image_id']), names.get(ann['category_id'])
        if picture is None or name is None:
            continue  # told by the check
        x, y, w, h = ann['bbox']
        picture.boxes.append(
            RawBox(
                (x, y, x + w, y + h),
                name,
                name_of(ann, number),
                ann.get('segmentation') or None,
                bool(ann.get('iscrowd')),
                (x, y, w, h),
                bool(ann.get('ignore')),
                ann.get('score'),
            )
        )


def _near(path: Path) -> list[Path]:
    """Where the pictures of a file are looked for: beside it, and in the usual folders."""
    split = path.stem.rpartition('_')[2]
    above = path.parent.parent
    return [
        path.parent,
        *(folder / name for folder in (path.parent, above) for name in (split, f'images/{split}', 'images', 'data')),
        above,
    ]


def _split_of_file(path: Path, root: Path) -> str:
    """What the name of a file says, else its folder: ``instances_val2017.json``, ``train/_annotations.coco.json``."""
    words = path.stem.replace('.', '_').replace('-', '_').split('_')
    named = next((found for word in reversed(words) if (found := clean_split(word))), None)
    return named or split_of(path, root)
