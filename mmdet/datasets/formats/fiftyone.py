"""FiftyOne's exports: ``samples.json`` of a whole data set, and ``labels.json`` of an image detection data set."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.datasets.reading.values import as_box, as_size, short
from mmdet.errors import UserValueError

from ..raw import RawBox, RawPicture
from .collection import UNSPLIT, Collection, Reading, clean_split, files_below, head, split_of
from .masks import code_of_bitmap


def fiftyone_files(root: Path) -> list[Path]:
    """``samples.json`` with samples, ``labels.json`` with labels by picture."""
    found = []
    for path in [root] if root.is_file() else files_below(root, 'samples.json', 'labels.json'):
        start = head(path)
        if (path.name == 'samples.json' and b'"samples"' in start) or b'"labels"' in start:
            found.append(path)
    return found


def read_fiftyone(root: Path) -> Collection:
    """Pictures and objects; of several fields with detections ``ground_truth``, else the only one. Tags tell splits."""
    reading = Reading(root if root.is_dir() else root.parent, 'fiftyone')
    classes: dict[str, None] = {}
    for path in fiftyone_files(root):
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise UserValueError(f'{str(path)!r} is not valid JSON: {error}') from None
        samples = _of_samples(content, path) if 'samples' in content else _of_labels(content)
        if isinstance(content.get('classes'), list):
            classes.update(dict.fromkeys(map(str, content['classes'])))
        for name, split, size, detections in samples:
            near = [path.parent, path.parent / 'data']
            picture = reading.picture(split or split_of(path, reading.root) or UNSPLIT, name, near, size)
            for number, detection in enumerate(detections, start=1):
                box = _object(detection, number, picture, reading)
                if box is not None:
                    picture.boxes.append(box)
    return reading.collected(classes or None)


def _of_samples(content: dict, path: Path) -> Iterator[tuple[str, str | None, Any, list[dict]]]:
    for sample in content['samples']:
        fields = {
            key: value['detections']
            for key, value in sample.items()
            if isinstance(value, dict) and isinstance(value.get('detections'), list)
        }
        chosen = 'ground_truth' if 'ground_truth' in fields else next(iter(fields), None)
        if len(fields) > 1 and chosen != 'ground_truth':
            raise UserValueError(f'{str(path)!r}: a sample has detections in {sorted(fields)}; none is "ground_truth"')
        meta = sample.get('metadata') or {}
        size = as_size(meta.get('height'), meta.get('width'))
        split = next((found for tag in sample.get('tags') or () if (found := clean_split(str(tag)))), None)
        yield sample['filepath'], split, size and (size[1], size[0]), fields.get(chosen or '', [])


def _of_labels(content: dict) -> Iterator[tuple[str, str | None, Any, list[dict]]]:
    classes = content.get('classes') or []
    for name, detections in content['labels'].items():
        named = [
            {**each, 'label': classes[each['label']]} if isinstance(each.get('label'), int) else each
            for each in detections or ()
        ]
        yield name, None, None, named


def _object(detection: dict, number: int, picture: RawPicture, reading: Reading) -> RawBox | None:
    entry = f'detection {number}'
    box = as_box(detection.get('bounding_box'))
    if box is None or 'label' not in detection or picture.size is None:
        reading.add(
            'unreadable annotation', picture.name, entry, f'has {short(detection.get("bounding_box"))}', detection
        )
        return None
    width, height = picture.size
    x, y, w, h = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    code = None
    if detection.get('mask'):
        code = _mask(detection['mask'], (x, y, w, h), picture, entry, reading)
    return RawBox((x, y, x + w, y + h), str(detection['label']), entry, code, score=detection.get('confidence'))


def _mask(mask: Any, box: tuple, picture: RawPicture, entry: str, reading: Reading) -> dict | None:
    """A bitmap within the box: an array as NumPy writes it, deflated and in base 64."""
    text: Any = (mask.get('$binary') or {}).get('base64') if isinstance(mask, dict) else mask
    try:
        array = np.load(io.BytesIO(zlib.decompress(base64.b64decode(text))), allow_pickle=False)
    except (TypeError, ValueError, zlib.error) as error:
        reading.add('unreadable run lengths', picture.name, entry, f'has a mask that cannot be read: {error}')
        return None
    assert picture.size is not None
    left, top = round(box[0]), round(box[1])
    return code_of_bitmap((array > 0).astype(np.uint8), left, top, (int(picture.size[1]), int(picture.size[0])))
