"""Masks as files and results hold them, looked at before code in C gets them.

A coordinate of 2e8, or run lengths that end early, would make pycocotools take all memory or never end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from mmdet.errors import UserValueError

LARGEST_MASK = 1 << 30
"""In pixels."""
TOGETHER = 1000
"""Run-length codes that are decoded at once."""
FARTHEST = 1 << 17
"""Coordinate of a polygon of a picture whose size is not known."""
MOST_CHARACTERS = 7
"""Of five bits each, for one number of a compressed run-length code."""
NUMBERS = {int, float}


@dataclass
class CheckedMask:
    """A segmentation in one of the three forms that pycocotools reads.

    Attributes:
        mask: Polygons of at least three points, or a run-length code whose runs add up; None if there is nothing left.
        repairs: What was changed, as kinds of the readers of annotation files.
        dropped: Kinds of what was left out, likewise.
        problem: Kind and description of what has no meaning; then ``mask`` is None.
    """

    mask: list[list[float]] | dict | None = None
    repairs: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    problem: tuple[str, str] | None = None


def check_mask(mask: Any, height: int | None = None, width: int | None = None) -> CheckedMask:
    """Check a COCO segmentation.

    Args:
        mask: Polygons, a run-length code, or either in one of the forms that have only one meaning: a code or several
            in a list, a polygon without the list around it, or as pairs of coordinates.
        height, width: Of the picture, where they are known: then polygons lie within its largest side around it.
    """
    found = CheckedMask()
    if isinstance(mask, dict):
        found.mask, text = _code(mask, height, width)
        found.problem = None if text is None else ('unreadable run lengths', text)
    elif isinstance(mask, (list, tuple)):
        if mask and all(isinstance(part, dict) for part in mask):
            _union(found, mask, height, width)
        else:
            _polygons(found, list(mask), height, width)
    elif mask is not None:
        found.problem = 'unreadable polygon', f'is {_short(mask)}, neither polygons nor a run-length code'
    return found


def polygon_bounds(height: int | None, width: int | None) -> tuple[float, float]:
    """The least and the largest coordinate of polygons of a picture: its largest side around it."""
    if height is None or width is None:
        return -FARTHEST, FARTHEST
    margin = max(height, width, 100)
    return -margin, max(height, width) + margin


def are_plain_polygons(mask: Any, low: float, high: float) -> bool:
    """Whether :func:`check_mask` would find nothing, of what nearly all masks of most files are."""
    if type(mask) is not list:
        return False
    for polygon in mask:
        if (
            type(polygon) is not list
            or len(polygon) < 6
            or len(polygon) % 2
            or not NUMBERS.issuperset(map(type, polygon))
        ):
            return False
        total = sum(polygon)  # NaN if one number is
        if not (total == total and low <= min(polygon) and max(polygon) <= high):
            return False
    return bool(mask)


def mask_bytes(counts: str | bytes) -> bytes:
    """Compressed counts; text that is not ASCII becomes bytes that no code has."""
    return counts if isinstance(counts, bytes) else counts.encode('ascii', 'replace')


def check_codes(masks: Sequence[Any], where: str) -> None:
    """Check run-length codes that a model or a result file gives, all at once.

    Raises:
        UserValueError: with ``where``, the number of the first bad one and what is wrong with it.
    """
    for number in np.flatnonzero(~are_sound_codes(masks)).tolist():
        checked = check_mask(masks[number])
        if checked.problem or checked.mask is None:
            text = checked.problem[1] if checked.problem else f'is {_short(masks[number])}, no mask'
            raise UserValueError(f'{where}: mask {number} {text}')


def are_sound_codes(masks: Sequence[Any]) -> np.ndarray:
    """(N,) whether each is a compressed run-length code of a picture of its ``size``."""
    places = [
        i for i, mask in enumerate(masks) if isinstance(mask, dict) and isinstance(mask.get('counts'), (str, bytes))
    ]
    sound = np.zeros(len(masks), dtype=bool)
    for start in range(0, len(places), TOGETHER):
        part = places[start : start + TOGETHER]
        pixels = np.array([_pixels(masks[i].get('size')) for i in part], dtype=np.int64)
        sound[part] = (pixels > 0) & (sums_of_runs([mask_bytes(masks[i]['counts']) for i in part]) == pixels)
    return sound


def sums_of_runs(codes: Sequence[bytes]) -> np.ndarray:
    """(N,) pixels that compressed counts of COCO cover together, -1 for what is no such code.

    A number stands in groups of five bits, the lowest first, each as a character from '0'; 32 says that another group
    follows, and 16 in the last group that the number is negative. From the fourth number on it is the difference to
    the number before the last.
    """
    count = len(codes)
    lengths = np.fromiter(map(len, codes), np.int64, count)
    text = np.frombuffer(b''.join(codes), np.uint8).astype(np.int64) - 48
    owner = np.repeat(np.arange(count), lengths)
    sound = lengths > 0
    sound[owner[(text < 0) | (text > 63)]] = False
    ends = np.cumsum(lengths)[sound] - 1
    sound[np.flatnonzero(sound)[text[ends] & 32 > 0]] = False
    keep = sound[owner]
    text, owner = text[keep], owner[keep]
    sums = np.where(sound, 0, -1)
    if not len(text):
        return sums
    last = np.flatnonzero(text & 32 == 0)
    start = np.r_[0, last[:-1] + 1]
    place = np.arange(len(text)) - np.repeat(start, last - start + 1)
    long = place >= MOST_CHARACTERS
    values = np.add.reduceat((text & 31) << 5 * np.where(long, 0, place), start)
    values -= np.where(text[last] & 16 > 0, 1 << 5 * (np.minimum(place[last], MOST_CHARACTERS) + 1), 0)
    own = owner[last]
    numbers = np.bincount(own, minlength=count)  # of each code
    first = np.repeat(np.cumsum(numbers) - numbers, numbers)
    runs = np.empty_like(values)  # sums of every other value, of the whole array at once
    runs[0::2], runs[1::2] = np.cumsum(values[0::2]), np.cumsum(values[1::2])
    index = np.arange(len(own)) - first
    before = np.where(index % 2 > 0, first - 1, first)  # what the codes before have left in the sum
    runs -= np.where(before < 0, 0, runs[before])
    runs = np.where(index == 0, values, runs)
    sums += np.bincount(own, weights=runs, minlength=count).astype(np.int64)
    sums[own[runs < 0]] = -1
    sums[owner[long]] = -1
    return sums


def _pixels(size: Any) -> int:
    """Of a mask of ``size`` (height, width), or -1."""
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(type(side) is int for side in size):
        return -1
    return size[0] * size[1] if min(size) > 0 and size[0] * size[1] <= LARGEST_MASK else -1


def _code(mask: dict, height: int | None, width: int | None) -> tuple[dict | None, str | None]:
    """The code, or None and what is wrong with it."""
    size, counts = mask.get('size'), mask.get('counts')
    pixels = _pixels(size)
    if pixels < 0 or size is None:
        return None, f'has run lengths of size {_short(size)}, which is no (height, width)'
    if height is not None and tuple(size) != (height, width):
        return None, f'has run lengths of size {list(size)}, but the picture is {[height, width]} (height, width)'
    if isinstance(counts, (str, bytes)):
        covered = int(sums_of_runs([mask_bytes(counts)])[0])
        text = None if covered >= 0 else f'has compressed run lengths that are none: {_short(counts)}'
    elif isinstance(counts, (list, tuple)):
        numbers = [int(n) if type(n) is float and n.is_integer() else n for n in counts]
        covered = sum(numbers) if all(type(n) is int and n >= 0 for n in numbers) else -1
        text = None if covered >= 0 else f'has run lengths that are no whole numbers from 0: {_short(counts)}'
        mask = {**mask, 'counts': numbers}
    else:
        return None, f'has run lengths {_short(counts)}'
    if text is None and covered != pixels:
        text = f'has run lengths that end after {covered} pixels of {list(size)}, which are {pixels}'
    return (mask, None) if text is None else (None, text)


def _union(found: CheckedMask, masks: Sequence[dict], height: int | None, width: int | None) -> None:
    """Run-length codes in a list cover what any of them covers."""
    parts = [check_mask(mask, height, width) for mask in masks]
    found.problem = next((part.problem for part in parts if part.problem), None)
    if found.problem is None and len({tuple(mask['size']) for mask in masks}) > 1:
        found.problem = 'unreadable run lengths', 'has run lengths of different sizes in one list'
    if found.problem is None:
        found.repairs.append('run lengths in a list')
        found.mask = parts[0].mask
        if len(parts) > 1:
            from pycocotools import mask as coco_mask

            merged = coco_mask.merge([compressed(part.mask) for part in parts])
            found.mask = {'size': list(merged['size']), 'counts': merged['counts'].decode()}


def compressed(mask: Any) -> Any:
    """A checked run-length code with compressed counts."""
    if isinstance(mask['counts'], list):
        from pycocotools import mask as coco_mask

        return coco_mask.frPyObjects(mask, *mask['size'])
    return mask


def _polygons(found: CheckedMask, parts: list, height: int | None, width: int | None) -> None:
    if not parts:
        return
    parts = [part.tolist() if isinstance(part, np.ndarray) else part for part in parts]
    if all(type(part) in NUMBERS for part in parts):
        parts = [parts]
        found.repairs.append('polygon without its list')
    elif len(parts) > 2 and all(map(_is_point, parts)):
        parts = [list(chain.from_iterable(parts))]
        found.repairs.append('polygon of pairs')
    low, high = polygon_bounds(height, width)
    kept = []
    for polygon in parts:
        if isinstance(polygon, (list, tuple)) and polygon and all(_is_point(point) for point in polygon):
            polygon = list(chain.from_iterable(polygon))
            found.repairs.append('polygon of pairs')
        if not isinstance(polygon, (list, tuple)):
            found.problem = 'unreadable polygon', f'has the polygon {_short(polygon)}, which is no list of numbers'
            return
        if not set(map(type, polygon)) <= NUMBERS:
            numbers = [_number(value) for value in polygon]
            if None in numbers:
                at = numbers.index(None)
                text = f'has a polygon with {_short(polygon[at])} among its numbers'
                found.problem = 'unreadable polygon', text
                return
            found.repairs.append('coordinate written as text')
            polygon = numbers
        if len(polygon) % 2:
            found.dropped.append('polygon with half a point')
            continue
        if len(polygon) < 6:
            found.dropped.append('polygon without three points')
            continue
        if not (low <= min(polygon) and max(polygon) <= high and sum(polygon) == sum(polygon)):
            wrong = next(value for value in polygon if not low <= value <= high)
            size = '' if height is None else f', far outside of its {width}x{height} picture'
            found.problem = 'unreadable polygon', f'has a polygon with the coordinate {_short(wrong)}{size}'
            return
        kept.append(list(polygon))
    found.mask = kept or None


def _is_point(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if type(value) in NUMBERS else None


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + '...'
