"""ODVG lines of other formats: what the converters in ``tools/dataset_converters`` share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mmdet.errors import UserValueError

from .coco_file import read_json, require
from .odvg_file import box_of, check_spans, phrase_of, write_lines
from .values import as_size, short


def convert_detection(
    source: str | Path,
    output: str | Path,
    label_map: str | Path,
    filename_of: Callable[[dict], str] = lambda image: image['file_name'],
    image_keys: tuple[str, ...] = ('id', 'file_name'),
) -> str:
    """Write the boxes of a COCO file as ODVG, and the names of its classes by label.

    Labels go by the ids of the categories. Crowds, ignored objects and boxes that lie outside of their picture or are
    thinner than a pixel are left out.

    Args:
        filename_of: Name of a picture by its entry.

    Returns:
        A sentence about what was written.
    """
    source = str(source)
    content = read_json(source)
    names = {
        category['id']: str(category['name']) for category in _by_id(content, 'categories', ('id', 'name'), source)
    }
    labels = {own: label for label, own in enumerate(names)}
    counts = dict(kept=0, left=0)

    def lines() -> Iterator[dict]:
        for image, entries in _pictures(content, image_keys, source):
            width, height = image['width'], image['height']
            instances = []
            for annotation in entries:
                box = _corners(annotation, width, height, source)
                if box is None or annotation.get('iscrowd') or annotation.get('ignore'):
                    counts['left'] += 1
                    continue
                own = annotation.get('category_id')
                if own not in labels:
                    raise UserValueError(
                        f'{source}: annotation {annotation.get("id")!r} has category {own!r}, which the file lacks'
                    )
                instances.append(dict(bbox=box, label=labels[own], category=names[own]))
            counts['kept'] += len(instances)
            yield dict(filename=filename_of(image), height=height, width=width, detection=dict(instances=instances))

    pictures = write_lines(str(output), lines())
    write_label_map(label_map, names.values())
    left = f', {counts["left"]} left out' if counts['left'] else ''
    return f'{output}: {pictures} pictures, {counts["kept"]} boxes{left}; {label_map}: {len(names)} classes'


def convert_captions(source: str | Path, output: str | Path) -> str:
    """Write a COCO file of captions, as MDETR (arXiv:2104.12763) has them, as ODVG.

    Boxes of the same ``tokens_positive`` are one region; without any the phrase is the caption.

    Returns:
        A sentence about what was written.
    """
    source = str(source)
    content = read_json(source)
    counts = dict(boxes=0)

    def lines() -> Iterator[dict]:
        for image, entries in _pictures(content, ('id', 'file_name', 'caption'), source):
            caption = image['caption']
            regions: dict[tuple, dict] = {}
            for annotation in entries:
                box = _corners(annotation, image['width'], image['height'], source)
                if box is None or annotation.get('category_id') == -1:  # gRefCOCO: the caption names nothing
                    continue
                where = f'{source}: annotation {annotation.get("id")!r}'
                spans = check_spans(annotation.get('tokens_positive') or [[0, len(caption)]], caption, where)
                add_region(regions, caption, spans, box)
                counts['boxes'] += 1
            grounding = dict(caption=caption, regions=list(regions.values()))
            yield dict(filename=image['file_name'], height=image['height'], width=image['width'], grounding=grounding)

    pictures = write_lines(str(output), lines())
    return f'{output}: {pictures} captions, {counts["boxes"]} boxes'


def add_region(regions: dict, caption: str, spans: list[list[int]], box: list[float]) -> None:
    """A box of a phrase, beside the others of these spans."""
    key = tuple(map(tuple, spans))
    region = regions.setdefault(key, dict(bbox=[], phrase=phrase_of(caption, spans), tokens_positive=spans))
    region['bbox'].append(box)


def write_label_map(path: str | Path, names: Iterable[str]) -> None:
    """Names by label, numbered from 0."""
    write_json(path, {str(label): name for label, name in enumerate(names)})


def write_json(path: str | Path, content: Any) -> None:
    """Write a file whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_text(json.dumps(content), encoding='utf-8')
    os.replace(temporary, path)


def _by_id(content: dict, key: str, keys: tuple[str, ...], source: str) -> list[dict]:
    require(content, (key,), 'the file', source)
    for entry in content[key]:
        require(entry, keys, f'an entry of "{key}"', source)
    return sorted(content[key], key=lambda entry: entry['id'])


def _pictures(content: dict, keys: tuple[str, ...], source: str) -> Iterator[tuple[dict, list[dict]]]:
    """Images in the order of the file, with whole numbers as sizes, and the annotations of each."""
    require(content, ('images', 'annotations'), 'the file', source)
    own: dict[Any, list[dict]] = {}
    for annotation in content['annotations']:
        require(annotation, ('image_id', 'bbox'), f'annotation {annotation.get("id")!r}', source)
        own.setdefault(annotation['image_id'], []).append(annotation)
    for image in content['images']:
        require(image, (*keys, 'height', 'width'), 'an entry of "images"', source)
        size = as_size(image['height'], image['width'])
        if size is None:
            raise UserValueError(
                f'{source}: image {image["id"]!r} has the size {short(image["width"])}x{short(image["height"])}'
            )
        yield dict(image, height=size[0], width=size[1]), own.get(image['id'], [])


def _corners(annotation: dict, width: int, height: int, source: str) -> list[float] | None:
    """x1, y1, x2, y2; None for a box that no detector can learn from."""
    x, y, w, h = box_of(annotation['bbox'], f'{source}: annotation {annotation.get("id")!r}')
    seen = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    return [x, y, x + w, y + h] if seen and w >= 1 and h >= 1 else None
