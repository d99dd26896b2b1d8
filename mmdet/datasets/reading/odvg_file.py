"""Files of the ODVG format (arXiv:2401.02361, Sec. 3.1): one JSON object in each line, for detection or for grounding.

A line has ``filename``, ``height``, ``width``, and ``detection`` (``instances``: ``bbox`` as x1, y1, x2, y2 in pixels,
``label``, ``category``) or ``grounding`` (``caption``, and ``regions``: ``bbox`` as one box or several, ``phrase``,
``tokens_positive``: spans of letters of the caption).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmengine.fileio import get_local_path

from mmdet.errors import UserFileError, UserValueError

from .coco_file import read_json, require
from .values import as_box, short


def read_lines(path: str, backend_args: dict | None = None) -> Iterator[tuple[int, dict]]:
    """Number and object of each line that is not empty.

    Raises:
        UserError: naming the file, and the line that is no JSON object.
    """
    try:
        with get_local_path(path, backend_args=backend_args) as local, open(local, encoding='utf-8') as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parsed(line, number, path)
    except FileNotFoundError:
        raise UserFileError(f'annotation file {path!r} does not exist') from None
    except UnicodeDecodeError as error:
        raise UserValueError(f'annotation file {path!r} is no text in UTF-8: {error}') from None


def _parsed(line: str, number: int, path: str) -> dict:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserValueError(
            f'{path!r}, line {number}: not valid JSON: {error}. An ODVG file has one JSON object in each line; '
            'tools/dataset_converters/coco2odvg.py makes one of a COCO file'
        ) from None
    if not isinstance(record, dict):
        raise UserValueError(f'{path!r}, line {number}: {short(record)}, not an object with filename, height and width')
    if 'images' in record and 'filename' not in record:
        raise UserValueError(
            f'{path!r}, line {number}: a COCO file, not one of ODVG: tools/dataset_converters/coco2odvg.py converts it'
        )
    require(record, ('filename', 'height', 'width'), f'line {number}', path)
    return record


def write_lines(path: str, records: Iterable[dict]) -> int:
    """Write an ODVG file whole or not at all; returns how many lines it has."""
    import os

    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    temporary, count = os.path.join(folder, f'.{os.path.basename(path)}.{os.getpid()}'), 0
    try:
        with open(temporary, 'w', encoding='utf-8') as file:
            for record in records:
                file.write(json.dumps(record) + '\n')
                count += 1
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    return count


def read_label_map(path: str, backend_args: dict | None = None) -> dict[str, str]:
    """Names of classes by label, which is a number written as text, in the order of the numbers.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    with get_local_path(path, backend_args=backend_args) as local:
        content = read_json(str(local), path)
    for label, name in content.items():
        if not (label.isascii() and label.isdigit()) or not isinstance(name, str):
            raise UserValueError(
                f'{path!r}: {short(label)}: {short(name)} is no entry of a label map, such as "0": "person"'
            )
    return {label: content[label] for label in sorted(content, key=int)}


def detection_of(record: dict, where: str) -> list[dict]:
    """``instances`` of a line, each with ``bbox`` as four numbers and ``label`` as a whole one."""
    detection = record['detection']
    instances = detection.get('instances', []) if isinstance(detection, dict) else None
    if not isinstance(instances, list):
        raise UserValueError(f'{where}: detection is {short(detection)}, not an object with a list "instances"')
    return [_instance(entry, f'{where}, object {number}') for number, entry in enumerate(instances, start=1)]


def _instance(entry: Any, where: str) -> dict:
    if not isinstance(entry, dict):
        raise UserValueError(f'{where}: {short(entry)}, not an object with bbox and label')
    label = entry.get('label')
    try:
        number = int(label) if isinstance(label, (int, str)) and not isinstance(label, bool) else -1
    except ValueError:
        number = -1
    if number < 0:
        raise UserValueError(f'{where}: label is {short(label)}, not the number of a class')
    return dict(entry, bbox=box_of(entry.get('bbox'), where), label=number)


def box_of(box: Any, where: str) -> list[float]:
    """Corners as four numbers."""
    numbers = as_box(box)
    if numbers is None:
        raise UserValueError(f'{where}: bbox is {short(box)}, not x1, y1, x2, y2 as finite numbers')
    return numbers


def grounding_of(record: dict, where: str) -> tuple[str, list[dict]]:
    """The caption of a line and its regions, each with ``bbox`` as a list of boxes, ``phrase`` and spans."""
    grounding = record['grounding']
    caption = grounding.get('caption') if isinstance(grounding, dict) else None
    regions = grounding.get('regions', []) if isinstance(grounding, dict) else None
    if not isinstance(caption, str) or not isinstance(regions, list):
        raise UserValueError(f'{where}: grounding is {short(grounding)}, not an object with caption and regions')
    return caption, [_region(entry, caption, f'{where}, region {i}') for i, entry in enumerate(regions, start=1)]


def _region(entry: Any, caption: str, where: str) -> dict:
    if not isinstance(entry, dict) or 'bbox' not in entry:
        raise UserValueError(f'{where}: {short(entry)}, not an object with bbox, phrase and tokens_positive')
    boxes = entry['bbox']
    several = isinstance(boxes, list) and (not boxes or isinstance(boxes[0], list))
    spans = check_spans(entry.get('tokens_positive'), caption, where)
    return dict(
        bbox=[box_of(box, where) for box in (boxes if several else [boxes])],
        phrase=entry.get('phrase', phrase_of(caption, spans)),
        tokens_positive=spans,
    )


def check_spans(spans: Any, caption: str, where: str) -> list[list[int]]:
    """``tokens_positive`` of one phrase: spans [start, end) of letters of ``caption``.

    Raises:
        UserValueError: with ``where`` and the span that lies outside of the caption.
    """
    if not isinstance(spans, (list, tuple)):
        raise UserValueError(f'{where}: tokens_positive is {short(spans)}, not a list of [start, end]')
    for span in spans:
        if not isinstance(span, Sequence) or len(span) != 2 or not all(type(place) is int for place in span):
            raise UserValueError(f'{where}: tokens_positive has {short(span)} where [start, end] belongs')
        if not 0 <= span[0] < span[1] <= len(caption):
            raise UserValueError(
                f'{where}: tokens_positive has {list(span)}, which is no span of the {len(caption)} letters of '
                f'{short(caption)}'
            )
    return [list(span) for span in spans]


def phrase_of(caption: str, spans: Iterable[Sequence[int]]) -> str:
    """The letters of a caption that spans cover."""
    return ' '.join(caption[start:end] for start, end in spans)
