"""What a detector is asked for in words: captions made of names, and where in a caption each name stands.

A span is ``[start, end]`` in characters, the end not included. A name has a list of spans, since it may be said in
several pieces or several times.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmdet.errors import UserTypeError, UserValueError

SEPARATOR = '. '
Spans = list[list[int]]


class Prompt(NamedTuple):
    """
    Attributes:
        caption: What the language model reads.
        spans: The places of each name in it.
        names: What is looked for, one label each.
    """

    caption: str
    spans: list[Spans]
    names: list[str]


def clean_label_name(name: str) -> str:
    """A class name as it is said: without remarks in brackets, with spaces for underscores."""
    return re.sub(r'\s+', ' ', re.sub(r'\(.*\)', '', name).replace('_', ' ')).strip()


def split_names(text: str) -> list[str]:
    """The names in ``'cat . remote control .'``: a full stop before a space, or at the end, ends one."""
    return [name for part in re.split(r'\.+(?:\s+|$)', text) if (name := part.strip())]


def clean_names(names: Any) -> list[str]:
    """Class names as they are said, of a list of them or of a text in which full stops part them.

    Raises:
        ValueError: if there is none, or nothing is left of one.
        TypeError: if one is no text.
    """
    given = split_names(names) if isinstance(names, str) else list(names)
    if not given:
        raise UserValueError(f'there is nothing to look for: the text is {names!r}')
    for index, name in enumerate(given):
        if not isinstance(name, str):
            raise UserTypeError(f'class {index} of the text must be a name, got {name!r} ({type(name).__name__})')
    cleaned = [clean_label_name(name) for name in given]
    if empty := [index for index, name in enumerate(cleaned) if not name]:
        index = empty[0]
        raise UserValueError(
            f'class {index} of the text, {given[index]!r}, is empty (what is in brackets does not count)'
        )
    return cleaned


def prompt_of_names(
    names: Sequence[str], wording: Mapping[str, Mapping[str, str]] | None = None, ends: bool = True
) -> Prompt:
    """A caption that says all names, one after the other, with a full stop between.

    Args:
        wording: By name, what is said in its place, ``name``, and what is said before and after it, ``prefix`` and
            ``suffix``, which do not count as the name.
        ends: Whether a full stop follows the last one, too.
    """
    caption, spans = '', []
    for index, name in enumerate(names):
        other = (wording or {}).get(name) or {}
        said = other.get('name', name)
        caption += other.get('prefix', '')
        spans.append([[len(caption), len(caption) + len(said)]])
        caption += said + other.get('suffix', '')
        if ends or index < len(names) - 1:
            caption += SEPARATOR
    return Prompt(caption, spans, list(names))


def ended(caption: str) -> str:
    """A caption with a full stop at its end.

    Raises:
        ValueError: if it is empty.
    """
    if not isinstance(caption, str):
        raise UserTypeError(f'the text must be a sentence, got {caption!r} ({type(caption).__name__})')
    if not caption.strip():
        raise UserValueError(f'there is nothing to look for: the text is {caption!r}')
    return caption if caption.endswith('.') else caption + SEPARATOR


def prompt_of_spans(caption: str, spans: Sequence[Sequence[Sequence[int]]]) -> Prompt:
    """A caption whose names stand where ``spans`` say; pieces of one name are shown with a stroke between.

    Raises:
        ValueError: if a name has no span, or a span lies outside the caption.
    """
    caption = ended(caption)
    names = []
    for index, pieces in enumerate(spans):
        if not isinstance(pieces, Sequence) or not pieces or not all(_is_span(piece, caption) for piece in pieces):
            raise UserValueError(
                f'tokens_positive[{index}] must be a list of [start, end] within the {len(caption)} characters of the '
                f'text {caption!r}, got {pieces!r}'
            )
        names.append(' / '.join(caption[start:end] for start, end in pieces))
    return Prompt(caption, [[[start, end] for start, end in pieces] for pieces in spans], names)


def _is_span(value: Any, caption: str) -> bool:
    if not isinstance(value, Sequence) or len(value) != 2 or not all(isinstance(n, int) for n in value):
        return False
    return 0 <= value[0] < value[1] <= len(caption)


def prompt_of_sentence(caption: str) -> Prompt:
    """A sentence whose noun phrases are looked for; one that is said twice is one name with two places.

    Raises:
        ValueError: if it has none.
    """
    caption = ended(caption)
    places: dict[str, Spans] = {}
    for start, end in noun_phrases(caption):
        places.setdefault(caption[start:end].lower(), []).append([start, end])
    if not places:
        raise UserValueError(
            f'no noun phrase was found in the text {caption!r}; give the names with custom_entities=True, or their '
            f'places with tokens_positive'
        )
    return Prompt(caption, list(places.values()), list(places))


def chunks(lst: Sequence, n: int) -> list[Sequence]:
    """Parts of ``n`` values, the last of which may be shorter."""
    return [lst[start : start + n] for start in range(0, len(lst), n)]


# ------------------------------------------------------------------------------------------------ noun phrases

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*|[^\s\w]|_")
_OPENERS = frozenset(
    _WORD.findall('a an the this that these those my your his her its our their some any each every no another')
)
_OTHERS = frozenset(
    _WORD.findall(
        'i you he she it we they me him us them who whom which what there here is are was were be been being am has '
        'have had do does did can could will would shall should may might must not and or but nor so yet if then than '
        'as while because when where how of in on at by for with from to into onto over under above below behind '
        'beside besides between among near next off out up down through across along around against '
        'about after before during without within toward towards very too also only just both either neither all many '
        'much few several more most less one two three four five six seven eight nine ten please find show '
        'detect look see sits stands '
        'lies holds wears eats drinks walks runs rides plays looks sitting standing lying'
    )
)


def noun_phrases(caption: str) -> list[list[int]]:
    """Spans of the noun phrases: an article, adjectives and nouns, ``the red remote control``.

    `nltk` tags the words where it is installed and has its tagger. Without it a rule of ours takes what stands between
    the words that join nouns: it does not know verbs other than the commonest and those in -ing.
    """
    words = [[match.start(), match.end()] for match in _WORD.finditer(''.join(map(_as_letter, caption)))]
    texts = [caption[start:end] for start, end in words]
    kinds = _tagged(texts) or _guessed(texts)
    return [[words[first][0], words[last][1]] for first, last in _phrases(kinds)]


def _as_letter(sign: str) -> str:
    """A letter for a sign that parts no word: a vowel of Hindi or Thai, an accent, a joiner, a picture."""
    kind = unicodedata.category(sign)
    return 'a' if kind[0] == 'M' or kind in ('So', 'Cf') or (kind == 'Sk' and not sign.isascii()) else sign


def _phrases(kinds: str) -> Iterator[tuple[int, int]]:
    """First and last word of each phrase: an optional opener, then adjectives, then nouns, one letter a word."""
    for match in re.finditer('O?A*N+', kinds):
        yield match.start(), match.end() - 1


def _tagged(texts: list[str]) -> str | None:
    """O for openers, A for adjectives, N for nouns and a dot for all else, by `nltk`; None where it cannot tell."""
    try:
        import nltk

        tags = [tag for _, tag in nltk.pos_tag([text.lower() for text in texts])]
    except (ImportError, LookupError):  # not installed, or without its data, which nobody asked to fetch
        return None
    letters = {'DT': 'O', 'JJ': 'A', 'NN': 'N'}
    return ''.join(letters.get(tag[:2], '.') for tag in tags)


def _guessed(texts: list[str]) -> str:
    """The same without adjectives by a list of words."""
    kinds = []
    for text, following in zip(texts, [*texts[1:], '']):
        word = text.lower()
        acts = word.endswith('ing') and len(word) > 4 and kinds[-1:] == ['N']
        acts = acts and following.lower() in _OPENERS | _OTHERS
        if word in _OPENERS:
            kinds.append('O')
        elif word in _OTHERS or acts or not any(map(str.isalpha, word)):
            kinds.append('.')
        else:
            kinds.append('N')
    return ''.join(kinds)
