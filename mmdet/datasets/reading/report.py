"""What a reader found in annotation files: how much it read, repaired, left out and refused, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmdet.errors import UserError, UserValueError


class Kind(NamedTuple):
    """What is done about a kind of mistake (``repaired``, ``left out`` or ``refused``), and what it is counted in."""

    action: str
    unit: str


UNITS = ('pictures', 'boxes', 'masks')
_TABLE = {
    # what has one meaning
    ('repaired', 'pictures'): (
        'number written as text',
        'size taken from the picture',
        'picture listed twice',
        'file name of another system',
    ),
    ('repaired', 'boxes'): (
        'id as text and as number',
        'annotation without id',
        'area computed',
        'flag that is no 0 or 1',
        'coordinate written as text',
        'box taken from its mask',
        'corners in the other order',
    ),
    ('repaired', 'masks'): ('run lengths in a list', 'polygon of pairs', 'polygon without its list'),
    # what no detector can learn from, as in MMDetection 3.x
    ('left out', 'boxes'): (
        'degenerate box',
        'thinner than a pixel',
        'box outside',
        'marked to be ignored',
        'not among the classes',
        'orphan image id',
        'orphan category id',
        'shape of another kind',
    ),
    ('left out', 'masks'): (
        'polygon without three points',
        'polygon with half a point',
        'object without a usable mask',
    ),
    # what has no meaning, or more than one
    ('refused', 'pictures'): ('unreadable image entry', 'repeated image id', 'unreadable size'),
    ('refused', 'boxes'): (
        'unreadable annotation',
        'repeated annotation id',
        'boxes in 0..1',
    ),
    ('refused', 'masks'): ('unreadable polygon', 'unreadable run lengths'),
}
KINDS: dict[str, Kind] = {name: Kind(*key) for key, names in _TABLE.items() for name in names}
"""All kinds of findings by name."""


def kind_of_thin(width: float, height: float) -> str:
    """The kind of a box with a side below one pixel."""
    return 'thinner than a pixel' if width > 0 and height > 0 else 'degenerate box'


@dataclass
class Finding:
    """One thing in a file that is not as it should be.

    Attributes:
        kind: A key of :data:`KINDS`.
        where: File name of the picture, or of the annotation file.
        entry: How to find it there: ``'annotation 7'``.
        detail: What it has or is, to follow ``entry`` in a sentence.
        value: The value in the file.
        image_id: The picture's id, where it belongs to one.
        error: What is raised for it if it is refused.
    """

    kind: str
    where: str
    entry: str
    detail: str
    value: Any = None
    image_id: Any = None
    error: type[UserError] = UserValueError

    @property
    def action(self) -> str:
        """``'repaired'``, ``'left out'`` or ``'refused'``."""
        return KINDS[self.kind].action

    def __str__(self) -> str:
        return f'{self.where}: {self.entry} {self.detail}'


class Report:
    """Counts and findings of the annotation files of a data set.

    Args:
        source: Name of the annotation file.
        limit: Findings of each kind to keep, all for None; counts are of all.
    """

    def __init__(self, source: str, limit: int | None = 3) -> None:
        self.source = source
        self.limit = limit
        self.counts: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self.read: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.filters: dict[str, int] = {}  # pictures that the dataset's filters left out
        self._kept: Counter[str] = Counter()

    def add(self, finding: Finding, count: int = 1) -> None:
        """Take a finding; ``count`` says how many such entries it stands for."""
        self.counts[finding.kind] += count
        if self.limit is None or self._kept[finding.kind] < self.limit:
            self._kept[finding.kind] += 1
            self.findings.append(finding)

    def wants(self, kind: str) -> bool:
        """Whether one more finding of this kind is kept; else :meth:`count` is enough."""
        return self.limit is None or self._kept[kind] < self.limit

    def count(self, kind: str, count: int = 1) -> None:
        """Count entries of a kind without keeping what they are."""
        self.counts[kind] += count

    def of(self, action: str) -> dict[str, int]:
        """Counts of the kinds that something was done about: ``'repaired'``, ``'left out'`` or ``'refused'``."""
        return {kind: n for kind, n in self.counts.items() if n and KINDS[kind].action == action}

    def raise_refused(self) -> None:
        """Stop at what cannot be read, if there is any.

        Raises:
            UserError: with file, entry and value of the first, and the number of the others.
        """
        refused = [finding for finding in self.findings if finding.action == 'refused']
        if refused:
            first, others = refused[0], sum(self.of('refused').values()) - 1
            at = '' if first.where in self.source else f' of {first.where!r}'
            more = f' ({others} more like this; tools/dataset_doctor.py lists all)' if others else ''
            raise first.error(f'{self.source}: {first.entry}{at} {first.detail}{more}')

    def table(self) -> str:
        """Pictures, boxes and masks read, repaired, left out and used; one line where all are used as they are."""
        numbers = ', '.join(f'{self.read[unit]} {unit}' for unit in UNITS if self.read.get(unit) or unit != 'masks')
        rows = [
            [f'{action}: {kind}', *(str(n) if KINDS[kind].unit == unit else '' for unit in UNITS)]
            for action in ('repaired', 'left out', 'refused')
            for kind, n in self.of(action).items()
        ]
        rows += [[f'left out: {name}', str(count), '', ''] for name, count in self.filters.items()]
        if not rows and self.used == self.read:
            return f'{self.source}: {numbers}, all used'
        from terminaltables import AsciiTable

        table = AsciiTable(
            [
                ['', *UNITS],
                ['read', *(str(self.read.get(unit, 0)) for unit in UNITS)],
                *rows,
                ['used', *(str(self.used.get(unit, 0)) for unit in UNITS)],
            ]
        )
        table.inner_footing_row_border = True
        table.justify_columns = dict.fromkeys(range(1, 4), 'right')
        return f'{self.source}:\n{table.table}'
