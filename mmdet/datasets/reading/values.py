"""Single values of annotation files: what they mean, or None where they mean nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from mmdet.errors import UserValueError

LARGEST_SIDE = 1 << 20
"""Of a picture, in pixels."""
LARGEST_PICTURE = 1 << 30
"""In pixels."""
LARGEST_COORDINATE = 1e7
TRUE, FALSE = ('1', 'true', 'yes'), ('', '0', 'false', 'no', 'unspecified', 'none')


def as_number(value: Any) -> float | None:
    """A finite number, also out of text; a truth value is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def as_side(value: Any) -> int | None:
    """Height or width: a whole number of pixels from 1 to :data:`LARGEST_SIDE`."""
    number = as_number(value)
    if number is None or number != int(number) or not 1 <= number <= LARGEST_SIDE:
        return None
    return int(number)


def as_size(height: Any, width: Any) -> tuple[int, int] | None:
    """Height and width of a picture of at most :data:`LARGEST_PICTURE` pixels."""
    sides = as_side(height), as_side(width)
    if sides[0] is None or sides[1] is None or sides[0] * sides[1] > LARGEST_PICTURE:
        return None
    return sides[0], sides[1]


def as_box(values: Any) -> list[float] | None:
    """Four numbers within :data:`LARGEST_COORDINATE`."""
    if not isinstance(values, (list, tuple)) or len(values) != 4:
        return None
    numbers = [as_number(value) for value in values]
    box = [number for number in numbers if number is not None and abs(number) <= LARGEST_COORDINATE]
    return box if len(box) == 4 else None


def numbers(values: Iterable[Any], where: str) -> list[float]:
    """Finite numbers.

    Raises:
        UserValueError: with ``where`` and the first value that is none.
    """
    values = list(values)
    found = [as_number(value) for value in values]
    kept = [number for number in found if number is not None and abs(number) <= LARGEST_COORDINATE]
    if len(kept) < len(values):
        wrong = next(v for v, n in zip(values, found, strict=True) if n is None or abs(n) > LARGEST_COORDINATE)
        raise UserValueError(f'{where} has {short(wrong)} where a finite number belongs')
    return kept


def as_flag(value: Any) -> int | None:
    """0 or 1, also out of text, truth values and other numbers; nothing at all is 0."""
    if value is None:
        return 0
    if isinstance(value, str):
        text = value.strip().lower()
        if text in TRUE or text in FALSE:
            return int(text in TRUE)
    number = as_number(int(value) if isinstance(value, bool) else value)
    return None if number is None else int(number != 0)


def as_id(value: Any) -> int | str | None:
    """A whole number or a text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def plain_id(value: int | str) -> str:
    """What a text and a number have in common if they mean the same id: ``'007'`` and 7."""
    text = str(value).strip()
    sign, digits = ('-', text[1:]) if text.startswith('-') else ('', text)
    return sign + (digits.lstrip('0') or '0') if digits.isascii() and digits.isdigit() else text


def short(value: Any, length: int = 60) -> str:
    """A value for a sentence."""
    shown = repr(list(value[:8]) if isinstance(value, Sequence) and not isinstance(value, str) else value)
    return shown if len(shown) <= length else shown[: length - 3] + '...'
