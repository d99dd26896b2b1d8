"""The content of a COCO JSON file, checked and repaired as a whole.

What has one meaning is repaired in place, what has none is refused; both are told to a :class:`Report`. Where a column
of all entries is as it should be, which one look at its types and one at its numbers shows, no entry is looked at.
"""

from __future__ import annotations

import codecs
import gc
import json
import os.path as osp
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.errors import UserError, UserFileError, UserKeyError, UserValueError
from mmdet.structures.mask.validation import (
    NUMBERS,
    CheckedMask,
    are_plain_polygons,
    check_mask,
    compressed,
    polygon_bounds,
)

from .report import Finding, Report
from .values import LARGEST_COORDINATE, as_box, as_flag, as_id, as_number, as_size, plain_id, short


class MissingKeyError(UserKeyError):
    """An annotation file lacks a key."""


# --------------------------------------------------------------------------------------------------------------------
# The file
def read_json(path: str, name: str | None = None) -> dict:
    """The object in a JSON file, in any Unicode encoding.

    Args:
        name: Of the file for messages, where ``path`` is that of a copy.

    Raises:
        UserError: naming the path: there is no such file, it is empty, no JSON, or holds something else.
    """
    name = path if name is None else name
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserFileError(f'annotation file {name!r} does not exist') from None
    except IsADirectoryError:
        raise UserFileError(f'annotation file {name!r} is a folder') from None
    return parse_json(content, name)


def parse_json(content: bytes, path: str) -> dict:
    """The object in the bytes of a JSON file; see :func:`read_json`."""
    if not content.strip():
        raise UserValueError(f'annotation file {path!r} is empty')
    try:
        with without_collection():
            parsed = json.loads(content.removeprefix(codecs.BOM_UTF8))  # programs for Windows begin with it
    except RecursionError:
        raise UserValueError(f'annotation file {path!r} is not valid JSON for a data set: nested too deeply') from None
    except ValueError as error:
        raise UserValueError(f'annotation file {path!r} is not valid JSON: {error}') from error
    if isinstance(parsed, list) and parsed and isinstance(parsed[0], dict) and 'image_id' in parsed[0]:
        raise UserValueError(
            f'annotation file {path!r} holds a list of {"results" if "score" in parsed[0] else "annotations"}, not an '
            'object with "images", "annotations" and "categories"'
        )
    if not isinstance(parsed, dict):
        raise UserValueError(f'annotation file {path!r} holds a {type(parsed).__name__}, not an object with "images"')
    return parsed


@contextmanager
def without_collection() -> Iterator[None]:
    """Make many lists and dicts without the collector looking through all of them again and again: half of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def require(entry: Any, keys: Sequence[str], where: str, source: str) -> None:
    """Stop where an entry is no object or lacks a key."""
    if not isinstance(entry, dict):
        raise UserValueError(f'{source}: {where} is {short(entry, 160)}, not an object')
    for key in keys:
        if key not in entry:
            raise MissingKeyError(f'{source}: {where} has no key {key!r}: {short(entry, 160)}')


# --------------------------------------------------------------------------------------------------------------------
# The entries
class CocoCheck:
    """Checks the lists of a COCO file in place; :attr:`images` are its pictures by id.

    Args:
        content: With ``images`` and ``categories``.
        report: What is found is told to it.
        image_keys: What an entry of ``images`` must have.
    """

    def __init__(self, content: dict, report: Report, image_keys: Sequence[str] = ('id', 'file_name')) -> None:
        self.content, self.report, self.source = content, report, report.source
        require(content, ('images', 'categories'), 'the file', self.source)
        for key in ('images', 'categories', 'annotations'):
            if not isinstance(content.get(key, []), list):
                raise UserValueError(f'{self.source}: "{key}" is {short(content[key], 160)}, not a list')
        for key, keys in (('images', image_keys), ('categories', ('id', 'name'))):
            for entry in content[key]:
                require(entry, keys, f'an entry of "{key}"', self.source)
        report.read['pictures'] = len(content['images'])
        self.images = self._pictures(image_keys)
        self.categories = self._categories()

    def _add(
        self, kind: str, entry: str, detail: str, value: Any = None, image_id: Any = None, error: Any = None
    ) -> None:
        where = osp.basename(self.source)
        image = self.images.get(image_id) if image_id is not None and hasattr(self, 'images') else None
        if image is not None:
            where = str(image.get('file_name', image_id))
        self.report.add(Finding(kind, where, entry, detail, value, image_id, error or UserValueError))

    def _pictures(self, image_keys: Sequence[str]) -> dict[Any, dict]:
        """Entries of ``images`` by id, each once; file names are text."""
        kept: dict[Any, dict] = {}
        for number, image in enumerate(self.content['images'], start=1):
            entry = f'image {number}'
            own = image['id'] if type(image['id']) is int else as_id(image['id'])
            if own is None:
                self._add('unreadable image entry', entry, f'has the id {short(image["id"])}', image['id'])
                continue
            image['id'] = own
            name = image.get('file_name')
            if 'file_name' in image_keys and (not isinstance(name, str) or not name):
                self._add('unreadable image entry', f'image {own!r}', f'has the file name {short(name)}', name)
                continue
            other = kept.setdefault(own, image)
            if other is not image:
                if {**other, 'license': 0} == {**image, 'license': 0}:
                    self._add('picture listed twice', f'image {own!r}', 'is listed twice', own)
                else:
                    detail = f'is both {_told(other)} and {_told(image)}: which boxes belong to which cannot be known'
                    self._add('repeated image id', f'image id {own!r}', detail, own)
        if len(kept) < len(self.content['images']):
            self.content['images'] = list(kept.values())
        return kept

    def _categories(self) -> dict[Any, dict]:
        kept: dict[Any, dict] = {}
        for category in self.content['categories']:
            own, name = as_id(category['id']), category['name']
            if isinstance(name, (int, float)) and not isinstance(name, bool):
                category['name'] = name = str(name)
            if own is None or not isinstance(name, str):
                raise UserValueError(f'{self.source}: a category has the id {short(category["id"])} and the name '
                                     f'{short(name)}')  # fmt: skip
            category['id'] = own
            other = kept.setdefault(own, category)
            if other['name'] != name:
                raise UserValueError(
                    f'{self.source}: category id {own!r} is both {other["name"]!r} and {name!r}: which boxes belong to '
                    'which cannot be known'
                )
        if len(kept) < len(self.content['categories']):
            self.content['categories'] = list(kept.values())
        return kept

    # -- ids and flags -------------------------------------------------------------------------------------------------

    def entries(self, entries: list[dict], own_ids: bool = True, unique: bool = False) -> list[dict]:
        """The annotations whose ids and flags can be read, with these repaired.

        Args:
            own_ids: They have ids, those that are missing are given.
            unique: The same id twice is refused.
        """
        self.report.read['boxes'] = len(entries)
        bad: set[int] = set()
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise UserValueError(f'{self.source}: an entry of "annotations" is {short(entry, 160)}, not an object')
            if 'image_id' not in entry or 'category_id' not in entry:
                key = 'image_id' if 'image_id' not in entry else 'category_id'
                self._refuse(entry, number, bad, f'has no key {key!r}', error=MissingKeyError)
        if own_ids:
            self._give_ids(entries, bad, unique)
        entries = _without(entries, bad)
        self._match(entries, 'image_id', self.images, 'orphan image id', 'belongs to image')
        self._match(entries, 'category_id', self.categories, 'orphan category id', 'has category')
        for key in ('iscrowd', 'ignore'):
            entries = self._flags(entries, key)
        return entries

    def _refuse(
        self, entry: dict, number: int, bad: set[int], detail: str, kind: str = 'unreadable annotation',
        value: Any = None, error: Any = None,
    ) -> None:  # fmt: skip
        bad.add(number)
        self._add(kind, name_of(entry, number), detail, value, _hashable(entry.get('image_id')), error)

    def _give_ids(self, entries: list[dict], bad: set[int], unique: bool) -> None:
        ids = [entry.get('id') for entry in entries]
        if set(map(type, ids)) <= {int}:
            if not unique or len(set(ids)) == len(ids):
                return
        else:
            ids = [as_id(own) for own in ids]
            free = max((own for own in ids if isinstance(own, int)), default=0)
            for number, (entry, own) in enumerate(zip(entries, ids, strict=True)):
                if own is None:
                    self._add('annotation without id', f'annotation number {number + 1}', 'has no id', entry.get('id'))
                    free += 1
                    own = ids[number] = free
                entry['id'] = own
        if unique:
            first: dict[Any, int] = {}
            for number, own in enumerate(ids):
                before = first.setdefault(own, number)
                if before != number:
                    pictures = [_told(self.images.get(entries[i].get('image_id'), {})) for i in (before, number)]
                    detail = (
                        f'comes twice: annotation ids are not unique! {own!r} is given twice, '
                        f'for {pictures[0]} and {pictures[1]}'
                    )
                    self._refuse(entries[number], number, bad, detail, 'repeated annotation id', own)

    def _match(self, entries: list[dict], key: str, known: dict, orphan: str, words: str) -> None:
        """Ids that are text here and numbers there become the known one; those of nothing are counted."""
        values = [entry[key] for entry in entries]
        if set(map(type, values)) <= {int, str} and set(values) <= set(known):
            return
        by_plain: dict[str, Any] = {}
        twice = Counter(plain_id(own) for own in known)
        by_plain = {plain_id(own): own for own in known if twice[plain_id(own)] == 1}
        for number, (entry, value) in enumerate(zip(entries, values, strict=True)):
            own = as_id(value)
            if own in known and own is not None:
                entry[key] = own
                continue
            found = None if own is None else by_plain.get(plain_id(own))
            label = name_of(entry, number)
            if found is not None:
                detail = f'{words} {value!r}, which the file lists as {found!r}'
                self._add('id as text and as number', label, detail, value, found if key == 'image_id' else None)
                entry[key] = found
            else:
                entry[key] = own if own is not None else repr(value)
                detail = f'{words} {short(value)}, which the file does not have'
                self._add(orphan, label, detail, value, _hashable(entry.get('image_id')))

    def _flags(self, entries: list[dict], key: str) -> list[dict]:
        flags = [entry.get(key, 0) for entry in entries]
        if set(map(type, flags)) <= {int} and set(flags) <= {0, 1}:
            return entries
        bad: set[int] = set()
        for number, (entry, flag) in enumerate(zip(entries, flags, strict=True)):
            if type(flag) in (int, bool) and flag in (0, 1):
                continue
            meant = as_flag(flag)
            if meant is None:
                self._refuse(entry, number, bad, f'has {key} {short(flag)}, which is no 0 or 1', value=flag)
                continue
            entry[key] = meant
            self._add(
                'flag that is no 0 or 1', name_of(entry, number), f'has {key} {short(flag)}, taken as {meant}', flag,
                entry['image_id'],
            )  # fmt: skip
        return _without(entries, bad)

    # -- sizes of pictures ---------------------------------------------------------------------------------------------

    def sizes(self, size_of: Callable[[dict], dict[str, int] | None]) -> None:
        """``height`` and ``width`` of every picture as whole numbers.

        Args:
            size_of: Reads them from a picture's file, given its entry, where the entry does not have them.
        """
        for image in self.content['images']:
            height, width = image.get('height'), image.get('width')
            if type(height) is int and type(width) is int and 0 < height < 32768 and 0 < width < 32768:
                continue
            size, given = as_size(height, width), f'{short(width)}x{short(height)}'
            label = f'image {image["id"]!r}'
            if size is not None:
                image['height'], image['width'] = size
                if type(height) is not int or type(width) is not int:
                    self._add('number written as text', label, f'has the size {given}', (height, width), image['id'])
                continue
            try:
                measured = size_of(image)
            except (OSError, UserError) as error:
                missing = [key for key in ('height', 'width') if key not in image]
                has = f'has no key {missing[0]!r}' if missing else f'has the size {given}'
                self._add(
                    'unreadable size', label, f'{has}, and its picture cannot be measured: {error}', (height, width),
                    image['id'], MissingKeyError if missing else UserValueError,
                )  # fmt: skip
                continue
            if measured is not None:
                image.update(measured)
                detail = f'has the size {given}, its picture {measured["width"]}x{measured["height"]}'
                self._add('size taken from the picture', label, detail, (height, width), image['id'])

    # -- boxes and masks -----------------------------------------------------------------------------------------------

    def boxes(self, entries: list[dict]) -> list[dict]:
        """The annotations whose ``bbox`` is four finite numbers near its picture, each with its ``area``."""
        boxes = [entry.get('bbox') for entry in entries]
        numbers = plain_table(boxes)
        if numbers is None:
            bad: set[int] = set()
            for number, (entry, box) in enumerate(zip(entries, boxes, strict=True)):
                self._box(entry, number, box, bad)
            entries = _without(entries, bad)
            numbers = np.array([entry['bbox'] for entry in entries], dtype=float).reshape(-1, 4)
        if len(entries):
            self._normalised(entries, numbers)
            self._areas(entries, numbers)
        return entries

    def _box(self, entry: dict, number: int, box: Any, bad: set[int]) -> None:
        numbers = as_box(box)
        if numbers is not None:
            if any(isinstance(value, str) for value in box):
                detail = f'has the box {short(box)} with text among its numbers'
                self._add('coordinate written as text', name_of(entry, number), detail, box, entry['image_id'])
            entry['bbox'] = numbers
            return
        around = None
        if (box is None or box == []) and entry.get('segmentation'):
            around = _box_around(self._checked(entry).mask)
        if around is not None:
            detail = f'has the box {short(box)}, taken from its mask'
            self._add('box taken from its mask', name_of(entry, number), detail, box, entry['image_id'])
            entry['bbox'] = around
        elif 'bbox' not in entry:
            detail = f"has no key 'bbox': {short(entry, 160)}"
            self._refuse(entry, number, bad, detail, error=MissingKeyError)
        else:
            detail = f'has the box {short(box)}, which is not x, y, width and height as finite numbers'
            if isinstance(box, list) and len(box) == 4 and all(as_number(v) is not None for v in box):
                detail = f'has the box {short(box)}, far outside of any picture'
            self._refuse(entry, number, bad, detail, value=box)

    def _normalised(self, entries: list[dict], boxes: np.ndarray) -> None:
        """Boxes in parts of the sides have two meanings: from the corner, or (YOLO) from the centre."""
        x, y, w, h = boxes.T
        parts = (w > 0) & (h > 0) & (w <= 1) & (h <= 1) & (x >= 0) & (y >= 0) & (x <= 1) & (y <= 1)
        count = int(parts.sum())
        if 2 * count <= int(((w > 0) & (h > 0)).sum()) or not self._are_pictures_large(entries, parts):
            return
        first = int(parts.argmax())
        detail = (
            f'has the box {short(entries[first]["bbox"])}: {count} of {len(boxes)} boxes lie in 0..1, as if they were '
            'parts of the sides of the picture; COCO boxes are x, y of the corner, width and height in pixels'
        )
        self._add('boxes in 0..1', name_of(entries[first], first), detail, None, entries[first]['image_id'])

    def _are_pictures_large(self, entries: list[dict], chosen: np.ndarray) -> bool:
        sides = [self.images.get(entries[i]['image_id'], {}).get('width') for i in np.flatnonzero(chosen)[:100]]
        return not any(isinstance(side, int) and side <= 4 for side in sides)

    def _areas(self, entries: list[dict], boxes: np.ndarray) -> None:
        areas: list[Any] = [entry.get('area') for entry in entries]
        column = plain_column(areas)
        if column is not None:
            unknown = np.flatnonzero(~((column > 0) & (column < 1e18)) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0))
        else:
            numbers = [as_number(area) for area in areas]
            unknown = np.array([i for i, n in enumerate(numbers) if n is None or not 0 < n < 1e18], dtype=int)
            for entry, area, number in zip(entries, areas, numbers, strict=True):
                if number is not None and isinstance(area, str):
                    entry['area'] = number
        for i in unknown.tolist():
            entry = entries[i]
            if self.report.wants('area computed'):
                detail = f'has the area {short(entry.get("area"))}, computed' if 'area' in entry else 'has no area'
                self._add('area computed', name_of(entry, i), detail, entry.get('area'), entry['image_id'])
            else:
                self.report.count('area computed')
            entry['area'] = _area(entry.get('segmentation'), boxes[i])

    def masks(self, entries: list[dict], needed: bool = False) -> list[dict]:
        """The annotations whose ``segmentation`` can be read, in a form that pycocotools reads, or absent.

        Args:
            needed: Objects without one are counted, and it is refused that none has one.
        """
        bad: set[int] = set()
        count = 0
        bounds: dict[Any, tuple[float, float]] = {}
        for number, entry in enumerate(entries):
            mask = entry.get('segmentation')
            if not mask and not isinstance(mask, (int, float, str)):
                if needed:
                    self._add('object without a usable mask', name_of(entry, number), 'has no mask', mask)
                continue
            count += 1
            own = entry['image_id']
            if own not in bounds:
                image = self.images.get(own, {})
                bounds[own] = polygon_bounds(*(as_size(image.get('height'), image.get('width')) or (None, None)))
            if are_plain_polygons(mask, *bounds[own]):
                continue
            checked = self._checked(entry)
            if checked.problem is not None:
                kind, detail = checked.problem
                self._refuse(entry, number, bad, detail, kind, mask)
                continue
            for kind in (*checked.repairs, *checked.dropped):
                detail = f'has the mask {short(mask)} ({kind})'
                self._add(kind, name_of(entry, number), detail, mask, entry['image_id'])
            if checked.mask is None:
                self._add('object without a usable mask', name_of(entry, number), 'has no usable mask', mask)
            elif checked.repairs or checked.dropped:
                entry['segmentation'] = checked.mask
        if needed and entries and not count:
            raise UserValueError(
                f'{self.source}: none of its {len(entries)} annotations has a mask ("segmentation"), which '
                'LoadAnnotations with with_mask=True needs'
            )
        self.report.read['masks'] = count
        return _without(entries, bad)

    def _checked(self, entry: dict) -> CheckedMask:
        image = self.images.get(entry['image_id'], {})
        size = as_size(image.get('height'), image.get('width')) or (None, None)
        return check_mask(entry.get('segmentation'), *size)


def plain_column(values: Sequence[Any]) -> np.ndarray | None:
    """(N,) numbers, or None where one is none or is larger than any float."""
    try:
        return np.array(values, dtype=float) if set(map(type, values)) <= NUMBERS else None
    except OverflowError:
        return None


def plain_table(boxes: Sequence[Any]) -> np.ndarray | None:
    """(N, 4) numbers, or None where a box is something else than four finite numbers of moderate size."""
    try:
        if not set(map(len, boxes)) <= {4} or not set(map(type, boxes)) <= {list, tuple}:
            return None
        if not set(map(type, chain.from_iterable(boxes))) <= NUMBERS:
            return None
        numbers = np.array(boxes, dtype=float).reshape(-1, 4)
    except (TypeError, OverflowError):
        return None
    return numbers if (np.abs(numbers) <= LARGEST_COORDINATE).all() else None


def name_of(entry: dict, number: int) -> str:
    """How to find an annotation in its file."""
    own = as_id(entry.get('id'))
    return f'annotation number {number + 1}' if own is None else f'annotation {own}'


def _hashable(value: Any) -> int | str | None:
    return as_id(value)


def _told(image: dict) -> str:
    name, size = image.get('file_name', image.get('id')), (image.get('width'), image.get('height'))
    return repr(name) if None in size else f'{name!r} ({size[0]}x{size[1]})'


def _without(entries: list[dict], bad: set[int]) -> list[dict]:
    return [entry for number, entry in enumerate(entries) if number not in bad] if bad else entries


def _area(mask: Any, box: np.ndarray) -> float:
    """Of the mask where its polygons or run lengths are plain, else of the box."""
    checked = check_mask(mask).mask
    if isinstance(checked, list):
        return sum(_polygon_area(np.array(polygon)) for polygon in checked)
    if checked is not None:
        from pycocotools import mask as coco_mask

        return float(coco_mask.area(compressed(checked)))
    return float(box[2] * box[3])


def _polygon_area(polygon: np.ndarray) -> float:
    from mmdet.structures.mask.polygons import polygon_area

    return polygon_area(polygon)


def _box_around(mask: list | dict | None) -> list[float] | None:
    """x, y, width and height of a checked mask."""
    if isinstance(mask, list):
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in mask]).astype(float)
        low, high = points.min(0), points.max(0)
        return [*low.tolist(), *(high - low).tolist()]
    if mask is not None:
        from pycocotools import mask as coco_mask

        return [float(value) for value in coco_mask.toBbox(compressed(mask))]
    return None
