"""Any text as it is written: no formulas, in fonts that have its letters."""

from __future__ import annotations

import functools
import threading
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from mmengine.logging import print_log

from mmdet.errors import UserFileError

MISSING = '?'
PLACEHOLDERS = ('last resort', 'lastresort', 'fallback', 'blank')  # fonts of frames in place of letters
_said: set[str] = set()
# One picture is drawn at a time, whatever the thread and the visualizer: they share figures and matplotlib's fonts.
DRAWING = threading.RLock()


def plain_text(text: str) -> str:
    """``text`` for matplotlib to write as it is: dollars open no formula, letters that no font has are ``?``."""
    return _with_letters(text).replace('$', r'\$')


def _with_letters(text: str) -> str:
    text = ''.join(' ' if unicodedata.category(letter) == 'Cc' else letter for letter in str(text))
    lost = missing_letters(text)
    return ''.join(MISSING if letter in lost else letter for letter in text) if lost else text


def font_runs(text: str, font_file: str | None = None) -> list[tuple[str, str]]:
    """The parts of a line of text, each with a font file that has its letters, as few as one for all of them.

    Args:
        font_file: The font of the letters that it has, before those of the system.
    """
    letters = frozenset(str(text))
    if font_file is not None:
        _require_font(font_file)
    own = [font_file] if font_file is not None else []
    if own and frozenset(map(ord, letters)) <= _letters_of(own[0]):
        return [(own[0], str(text))]
    text = _with_letters(text)
    files = [*own, _default_file(), *_fallback(_beyond_default(text))[0]]
    for file in files:
        if all(ord(letter) in _letters_of(file) for letter in text):
            return [(file, text)]
    runs: list[tuple[str, str]] = []
    for letter in text:
        last = runs[-1][0] if runs else None
        if last is not None and (ord(letter) in _letters_of(last) or unicodedata.combining(letter)):
            runs[-1] = (last, runs[-1][1] + letter)
        else:
            runs.append((next((file for file in files if ord(letter) in _letters_of(file)), files[0]), letter))
    return runs


def _require_font(path: str) -> None:
    if not _letters_of(path):
        raise UserFileError(f'{path!r} is not a font file (.ttf, .otf or .ttc) that can be drawn with')


def class_names(names: Iterable) -> list[str]:
    """Names of classes for charts; numbers where no font of this system has the letters of a name."""
    return [f'class {label}' if missing_letters(str(name)) else str(name) for label, name in enumerate(names)]


def font_families(texts: str | Iterable[str]) -> list[str]:
    """Families; matplotlib takes each letter from the first that has it: its own, then others of the system."""
    return ['sans-serif', *map(_family, _fallback(_beyond_default(texts))[0])]


def missing_letters(texts: str | Iterable[str]) -> frozenset[str]:
    """The letters that no font of this system has; said once for each."""
    lost = _fallback(_beyond_default(texts))[1]
    new = lost - _said
    if new:
        _said.update(new)
        print_log(
            f'No font on this system has the letters {"".join(sorted(new))!r} to be drawn: {MISSING!r} or the '
            'numbers of classes stand for them. A package such as fonts-noto-cjk has those of most languages.',
            'current',
            30,
        )
    return lost


def write_line(strip: np.ndarray, text: str) -> None:
    """Write a line of text over a picture (h, w, 3), from its left border on."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = strip.shape[:2]
    with DRAWING:
        figure = Figure(figsize=((width + 0.01) / 100, (height + 0.01) / 100), dpi=100)
        canvas = FigureCanvasAgg(figure)
        figure.figimage(strip, origin='upper')
        figure.text(2 / width, 0.5, plain_text(text), size=8, va='center', color='#282828', family=font_families(text))
        canvas.draw()
        strip[:] = np.asarray(canvas.buffer_rgba())[:height, :width, :3]


def _beyond_default(texts: str | Iterable[str]) -> frozenset[str]:
    letters = frozenset(''.join(texts)) - set('\n\t ')
    return letters if letters <= _ASCII else frozenset(letter for letter in letters if ord(letter) not in _default())


_ASCII = frozenset(map(chr, range(32, 127)))


@functools.cache
def _default_file() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return str(findfont(FontProperties(family=['sans-serif'])))


def _default() -> frozenset[int]:
    return _letters_of(_default_file())


@functools.lru_cache(256)
def _fallback(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Font files that have ``letters``, as few as a greedy choice finds, and the letters that none has."""
    if not letters - _ASCII:
        return (), frozenset()
    files: list[str] = []
    rest = set(map(ord, letters))
    fonts = _fonts()
    while rest:
        best = max(fonts, key=lambda font: len(_letters_of(font) & rest), default=None)
        found = _letters_of(best) & rest if best is not None else frozenset()
        if best is None or not found:
            break
        files.append(best)
        rest -= found
    return tuple(files), frozenset(map(chr, rest))


def _fonts() -> Sequence[str]:
    """Font files, upright ones of normal weight first; also such as were installed after matplotlib made its list."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname: entry for entry in fontManager.ttflist}
    slanted = lambda path: (
        path in known and (known[path].style != 'normal' or known[path].weight not in (400, 'normal'))
    )
    return sorted({*known, *findSystemFonts()}, key=lambda path: (slanted(path), path))


@functools.cache
def _letters_of(path: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
        real = font.scalable and not any(word in font.family_name.lower() for word in PLACEHOLDERS)
        return frozenset(font.get_charmap()) if real else frozenset()
    except Exception:  # fonts of bitmaps, in colours, damaged
        return frozenset()


def _family(path: str) -> str:
    from matplotlib.font_manager import fontManager, get_font

    name = get_font(path).family_name
    if not any(entry.fname == path for entry in fontManager.ttflist):
        fontManager.addfont(path)
    return name
