"""The published weights of configs, by name. ``tools/misc/weights_manifest.py`` writes the file.

Only the standard library is imported here, so that the list is shown at once.
"""

from __future__ import annotations

import difflib
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

from mmdet.config.files import find_config
from mmdet.errors import UserKeyError

FILE = Path(__file__).with_name('manifest.json')


class NoWeightsError(UserKeyError):
    """A model that nobody has published weights of, or none that are known here."""


@dataclass(frozen=True)
class Entry:
    """Published weights.

    Attributes:
        name: Of the config, as every command takes it.
        config: Its file below ``configs``.
        url: Of a file, or ``hf://owner/repo``.
        sha256: As much of it as is known; '' for nothing.
        parameters: Of the model; None where they have not been counted.
        licence: Of the weights.
        results: What was published, by metric: ``{'box AP': 41.1}`` on COCO val2017 unless it says otherwise.
    """

    name: str
    config: str
    url: str
    sha256: str
    parameters: int | None
    licence: str
    results: dict[str, float] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The folder of the config."""
        return self.config.partition('/')[0]

    @property
    def shown_results(self) -> str:
        """``box AP 41.1, mask AP 35.4``"""
        return ', '.join(f'{metric} {value:g}' for metric, value in self.results.items())


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All of the manifest, in the order of their names."""
    return tuple(Entry(**row) for row in json.loads(FILE.read_text(encoding='utf-8')))


@functools.cache
def _by_name() -> dict[str, Entry]:
    return {entry.name: entry for entry in entries()}


def weights_of(name: str) -> Entry:
    """The entry of a config that is given by its name, whole or short.

    Raises:
        NoWeightsError: there are no published weights, with what to do.
        UserFileError: there is no such config.
    """
    known = _by_name()
    if name in known:
        return known[name]
    stem = find_config(name).stem
    if stem in known:
        return known[stem]
    near = difflib.get_close_matches(stem, known, n=3, cutoff=0.7)
    hint = f' Those of {", ".join(near)} are known.' if near else ''
    raise NoWeightsError(
        f'no weights are known for {stem}: give a file of them, or pretrained=False (--scratch) for random ones.{hint}'
    )


def search(*words: str) -> list[Entry]:
    """The entries in whose name or family every word occurs, the best first; all of them without words."""
    found = [entry for entry in entries() if all(word.lower().replace('-', '_') in _searched(entry) for word in words)]
    return sorted(found, key=lambda entry: -max((v for k, v in entry.results.items() if k == 'box AP'), default=0))


def _searched(entry: Entry) -> str:
    return f'{entry.family} {entry.name}'.lower().replace('-', '_')
