"""Annotations, and predictions, in the formats of other tools."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mmdet.datasets.raw import RawBox, RawPicture
from mmdet.errors import UserFileError, UserValueError

from .collection import UNSPLIT, Collection
from .masks import bitmap_of, polygons_of

_NOT_IN_XML = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f]')  # names of files may have them
FOLDERS = {'': 'all', 'train': 'train', 'val': 'val', 'test': 'test'}


def write_data(collection: Collection, out: str | Path, format: str, pictures: str = 'link') -> list[str]:
    """Write a collection into a new or empty folder.

    Args:
        format: One of :data:`WRITERS`.
        pictures: ``'link'`` (hard links, or copies where there can be none), ``'copy'``, or ``'none'``: the files name
            those where they are. YOLO finds labels by the paths of pictures, so it needs one of the first two.

    Returns:
        What the format cannot say, a sentence for each.
    """
    if format not in WRITERS:
        raise UserValueError(f'there is no format {format!r} to write; there are {", ".join(WRITERS)}')
    if pictures not in ('link', 'copy', 'none'):
        raise UserValueError(f"pictures must be 'link', 'copy' or 'none', not {pictures!r}")
    if format == 'yolo' and pictures == 'none':
        raise UserValueError("YOLO finds labels by the paths of the pictures: pictures must be 'link' or 'copy'")
    out = Path(out)
    if out.is_dir() and any(out.iterdir()):
        raise UserFileError(f'{str(out)!r} is not empty; nothing was written')
    sized = [picture for picture in collection.pictures if picture.size is None]
    if sized:
        raise UserValueError(f'{len(sized)} pictures have no size, such as {sized[0].path!r}: are they there?')
    return WRITERS[format](collection, out, pictures)


# --------------------------------------------------------------------------------------------------------------------
# COCO
def to_coco(pictures: Sequence[RawPicture], classes: Sequence[str], names: Sequence[str] | None = None) -> dict:
    """The content of a COCO file; ids count from 1, categories are numbered in the order of the classes.

    Args:
        names: ``file_name`` of each picture, by default that of the collection.
    """
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    images: list[dict] = []
    annotations: list[dict] = []
    for index, picture in enumerate(pictures):
        assert picture.size is not None
        width, height = int(picture.size[0]), int(picture.size[1])
        name = picture.name if names is None else names[index]
        images.append(dict(id=index + 1, file_name=name, width=width, height=height))
        for box in picture.boxes:
            if box.category not in numbers:
                continue
            x1, y1, x2, y2 = box.xyxy
            entry: dict[str, Any] = dict(
                id=len(annotations) + 1,  # 0 means 'not matched' in COCO's evaluation
                image_id=index + 1,
                category_id=numbers[box.category],
                bbox=list(box.xywh or (x1, y1, x2 - x1, y2 - y1)),
                area=_area(box, (height, width)),
                iscrowd=int(box.crowd),
            )
            if box.difficult:
                entry['ignore'] = 1
            if box.segmentation:
                entry['segmentation'] = box.segmentation
            if box.score is not None:
                entry['score'] = box.score
            annotations.append(entry)
    categories = [dict(id=number, name=name, supercategory='') for name, number in numbers.items()]
    return dict(images=images, annotations=annotations, categories=categories)


def _area(box: RawBox, shape: tuple[int, int]) -> float:
    if box.segmentation:
        return float(bitmap_of(box.segmentation, shape).sum())
    x1, y1, x2, y2 = box.xyxy
    return (x2 - x1) * (y2 - y1)


def _write_coco(collection: Collection, out: Path, pictures: str) -> list[str]:
    for split, group in collection.splits.items():
        folder = out / FOLDERS[split]
        names = _place(group, folder, pictures)
        write_json(out / 'annotations' / f'instances_{FOLDERS[split]}.json', to_coco(group, collection.classes, names))
    return []


# --------------------------------------------------------------------------------------------------------------------
# YOLO
def _write_yolo(collection: Collection, out: Path, pictures: str) -> list[str]:
    lost = {'crowds and difficult objects are left out': 0, 'all but the largest part of a mask are left out': 0}
    numbers = {name: number for number, name in enumerate(collection.classes)}
    lines = ['path: .']
    for split, group in collection.splits.items():
        names = _place(group, out / 'images' / FOLDERS[split], pictures)
        lines.append(f'{split or "train"}: images/{FOLDERS[split]}')
        for picture, name in zip(group, names, strict=True):
            rows = []
            for box in picture.boxes:
                if box.crowd or box.difficult or box.category not in numbers:
                    lost['crowds and difficult objects are left out'] += 1
                    continue
                values, parts = _yolo_numbers(box, picture)
                lost['all but the largest part of a mask are left out'] += parts > 1
                rows.append(f'{numbers[box.category]} ' + ' '.join(repr(round(value, 12)) for value in values))
            _write_text(out / 'labels' / FOLDERS[split] / f'{Path(name).stem}.txt', ''.join(f'{row}\n' for row in rows))
    if 'train' not in collection.splits and UNSPLIT not in collection.splits:
        lines.append('train: []')
    if 'val' not in collection.splits:
        lines.append('val: []')
    lines += ['names:', *(f'  {number}: {json.dumps(name)}' for name, number in numbers.items())]
    _write_text(out / 'data.yaml', '\n'.join(lines) + '\n')
    return [f'{count} times: {text}' for text, count in lost.items() if count]


def _yolo_numbers(box: RawBox, picture: RawPicture) -> tuple[list[float], int]:
    """Centre and sides, or the largest polygon, in parts of the picture's sides; and of how many polygons."""
    assert picture.size is not None
    width, height = picture.size
    if box.segmentation:
        polygons = polygons_of(box.segmentation, (int(height), int(width)))
        if polygons:
            largest = max(polygons, key=len)
            return [value / (width, height)[i % 2] for i, value in enumerate(largest)], len(polygons)
    x1, y1, x2, y2 = box.xyxy
    return [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], 1


# --------------------------------------------------------------------------------------------------------------------
# VOC
def _write_voc(collection: Collection, out: Path, pictures: str) -> list[str]:
    lost = 0
    everything = collection.pictures
    names = dict(zip(map(id, everything), _place(everything, out / 'JPEGImages', pictures), strict=True))
    for split, group in collection.splits.items():
        ids = [Path(names[id(picture)]).stem for picture in group]
        _write_text(out / 'ImageSets' / 'Main' / f'{FOLDERS[split]}.txt', ''.join(f'{each}\n' for each in ids))
        for picture, stem in zip(group, ids, strict=True):
            assert picture.size is not None
            root = ElementTree.Element('annotation')
            ElementTree.SubElement(root, 'filename').text = Path(names[id(picture)]).name
            size = ElementTree.SubElement(root, 'size')
            for key, value in zip(('width', 'height', 'depth'), (*picture.size, 3), strict=True):
                ElementTree.SubElement(size, key).text = str(int(value))
            for box in picture.boxes:
                lost += bool(box.segmentation)
                item = ElementTree.SubElement(root, 'object')
                ElementTree.SubElement(item, 'name').text = box.category
                ElementTree.SubElement(item, 'difficult').text = str(int(box.difficult or box.crowd))
                place = ElementTree.SubElement(item, 'bndbox')
                for key, number in zip(('xmin', 'ymin', 'xmax', 'ymax'), box.xyxy, strict=True):
                    ElementTree.SubElement(place, key).text = _plain(number + 1)
            _write_xml(out / 'Annotations' / f'{stem}.xml', root)
    return [f'{lost} masks are left out, of which a VOC file has none'] if lost else []


# --------------------------------------------------------------------------------------------------------------------
# CVAT
def _write_cvat(collection: Collection, out: Path, pictures: str) -> list[str]:
    root = ElementTree.Element('annotations')
    ElementTree.SubElement(root, 'version').text = '1.1'
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(root, 'meta'), 'task'), 'labels')
    for name in collection.classes:
        ElementTree.SubElement(ElementTree.SubElement(labels, 'label'), 'name').text = name
    everything = collection.pictures
    names = iter(_place(everything, out / 'images', pictures))
    number = 0
    for split, group in collection.splits.items():
        for picture in group:
            assert picture.size is not None
            width, height = int(picture.size[0]), int(picture.size[1])
            attributes = dict(id=str(number), name=next(names), width=str(width), height=str(height))
            if split != UNSPLIT:
                attributes['subset'] = split
            image = ElementTree.SubElement(root, 'image', attributes)
            number += 1
            for box in picture.boxes:
                for shape in _cvat_shapes(box, (height, width)):
                    image.append(shape)
    _write_xml(out / 'annotations.xml', root)
    return []


def _cvat_shapes(box: RawBox, shape: tuple[int, int]) -> list[ElementTree.Element]:
    common = dict(label=str(box.category), source='manual' if box.score is None else 'auto', occluded='0', z_order='0')
    if isinstance(box.segmentation, dict):
        import numpy as np

        bitmap = bitmap_of(box.segmentation, shape)
        rows, columns = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
        if not len(rows):
            return []
        top, left = rows[0], columns[0]
        window = bitmap[top : rows[-1] + 1, left : columns[-1] + 1]
        flat = np.concatenate([[0], window.ravel(), [2]])  # begins with the background
        runs = np.diff(np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])))
        runs[0] -= 1
        place = dict(left=left, top=top, width=window.shape[1], height=window.shape[0])
        code = ', '.join(map(str, runs.tolist()))
        shapes = [ElementTree.Element('mask', common | {'rle': code} | {k: str(v) for k, v in place.items()})]
    elif box.segmentation:
        shapes = [
            ElementTree.Element('polygon', common | {'points': ';'.join(f'{_plain(x)},{_plain(y)}' for x, y in points)})
            for points in (list(zip(part[::2], part[1::2], strict=True)) for part in box.segmentation)
        ]
    else:
        keys = zip(('xtl', 'ytl', 'xbr', 'ybr'), box.xyxy, strict=True)
        shapes = [ElementTree.Element('box', common | {key: _plain(value) for key, value in keys})]
    for found in shapes:
        marks = dict(iscrowd=box.crowd or None, difficult=box.difficult or None, score=box.score)
        for name, value in marks.items():
            if value is not None:
                ElementTree.SubElement(found, 'attribute', name=name).text = _plain(float(value))
    return shapes


# --------------------------------------------------------------------------------------------------------------------
# Label Studio
def _write_label_studio(collection: Collection, out: Path, pictures: str) -> list[str]:
    for split, group in collection.splits.items():
        names = _place(group, out / 'images' / FOLDERS[split], pictures)
        tasks = [_task(picture, name, pictures) for picture, name in zip(group, names, strict=True)]
        write_json(out / f'{FOLDERS[split]}.json', tasks)
    return []


def _task(picture: RawPicture, name: str, pictures: str) -> dict:
    """A task; objects with scores become predictions, which the labelling page shows beforehand."""
    assert picture.size is not None
    width, height = picture.size
    results = []
    for box in picture.boxes:
        common = dict(from_name='label', to_name='image', original_width=width, original_height=height)
        if box.score is not None:
            common['score'] = box.score
        for part in polygons_of(box.segmentation, (int(height), int(width))) if box.segmentation else []:
            points = [[100 * x / width, 100 * y / height] for x, y in zip(part[::2], part[1::2], strict=True)]
            results.append(common | dict(type='polygonlabels', value=dict(points=points, polygonlabels=[box.category])))
        if not box.segmentation:
            x1, y1, x2, y2 = box.xyxy
            place = dict(x=100 * x1 / width, y=100 * y1 / height, width=100 * (x2 - x1) / width,
                         height=100 * (y2 - y1) / height, rotation=0, rectanglelabels=[box.category])  # fmt: skip
            results.append(common | dict(type='rectanglelabels', value=place))
    predicted = any(box.score is not None for box in picture.boxes)
    kind = 'predictions' if predicted else 'annotations'
    address = name if pictures == 'none' else f'/data/local-files/?d={name}'
    entry: dict[str, Any] = dict(result=results)
    if predicted:
        entry |= dict(model_version='mmdet', score=max(box.score or 0 for box in picture.boxes))
    return {'data': {'image': address}, kind: [entry]}


# --------------------------------------------------------------------------------------------------------------------
# LabelMe, CSV
def _write_labelme(collection: Collection, out: Path, pictures: str) -> list[str]:
    for split, group in collection.splits.items():
        folder = out / FOLDERS[split]
        for picture, name in zip(group, _place(group, folder, pictures), strict=True):
            assert picture.size is not None
            width, height = int(picture.size[0]), int(picture.size[1])
            shapes: list[dict] = []
            for box in picture.boxes:
                x1, y1, x2, y2 = box.xyxy
                parts = [('rectangle', [[x1, y1], [x2, y2]])]
                if box.segmentation:
                    polygons = polygons_of(box.segmentation, (height, width))
                    parts = [('polygon', [list(p) for p in zip(q[::2], q[1::2], strict=True)]) for q in polygons]
                for kind, points in parts:
                    shapes.append(dict(label=box.category, points=points, group_id=None, shape_type=kind, flags={}))
            content: dict = {
                'version': '5.0.1',
                'flags': {},
                'shapes': shapes,
                'imagePath': name if pictures == 'none' else Path(name).name,
                'imageData': None,
                'imageHeight': height,
                'imageWidth': width,
            }
            write_json(folder / f'{Path(name).stem}.json', content)
    return []


def _write_csv(collection: Collection, out: Path, pictures: str) -> list[str]:
    lost = sum(bool(box.segmentation) for picture in collection.pictures for box in picture.boxes)
    for split, group in collection.splits.items():
        names = _place(group, out / FOLDERS[split], pictures)
        rows: list[list] = [['filename', 'width', 'height', 'class', 'xmin', 'ymin', 'xmax', 'ymax']]
        for picture, name in zip(group, names, strict=True):
            assert picture.size is not None
            size = [int(side) for side in picture.size]
            rows += [[name, *size, box.category, *map(_plain, box.xyxy)] for box in picture.boxes]
            if not picture.boxes:
                rows.append([name, *size, '', '', '', '', ''])
        (out / FOLDERS[split]).mkdir(parents=True, exist_ok=True)
        with (out / f'{FOLDERS[split]}_labels.csv').open(
            'w', newline='', encoding='utf-8', errors='backslashreplace'
        ) as file:
            csv.writer(file).writerows(rows)
    return [f'{lost} masks are left out, of which a table of boxes has none'] if lost else []


WRITERS: dict[str, Callable[[Collection, Path, str], list[str]]] = {
    'coco': _write_coco,
    'yolo': _write_yolo,
    'voc': _write_voc,
    'cvat': _write_cvat,
    'label-studio': _write_label_studio,
    'labelme': _write_labelme,
    'csv': _write_csv,
}


# --------------------------------------------------------------------------------------------------------------------
# Files
def _place(pictures: Iterable[RawPicture], folder: Path, how: str) -> list[str]:
    """Names of the pictures in the files, after they are put into a folder; no two have the same stem there."""
    pictures = list(pictures)
    if how == 'none':
        return [os.path.abspath(picture.path) for picture in pictures]
    folder.mkdir(parents=True, exist_ok=True)
    stems = [Path(picture.name).stem.lower() for picture in pictures]
    names, taken = [], set()
    for picture, stem in zip(pictures, stems, strict=True):
        name = Path(picture.name).name
        if stems.count(stem) > 1 if len(stems) < 2000 else stem in taken:
            name = picture.name.strip('/').replace('/', '__').replace(':', '_')
        name = ''.join(letter if letter.isprintable() else '_' for letter in name)  # lists have a name on each line
        while Path(name).stem.lower() in taken:
            name = f'_{name}'
        taken.add(Path(name).stem.lower())
        names.append(name)
        target = folder / name
        try:
            if how == 'link':
                os.link(os.path.realpath(picture.path), target)
            else:
                shutil.copyfile(picture.path, target)
        except FileNotFoundError:
            raise UserFileError(f'there is no picture {picture.path!r}') from None
        except OSError:
            shutil.copyfile(picture.path, target)
    return names


def _plain(number: float) -> str:
    """A number as short as it can be without losing anything."""
    return str(int(number)) if number == int(number) else repr(float(number))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    _write_text(path, json.dumps(content))


def _write_xml(path: Path, root: ElementTree.Element) -> None:
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding='unicode') + '\n'
    _write_text(path, _NOT_IN_XML.sub(lambda found: f'\\x{ord(found[0]):02x}', text))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_text(text, encoding='utf-8', errors='backslashreplace')  # paths that are no text
    os.replace(temporary, path)
