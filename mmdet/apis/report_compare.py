"""Two runs beside each other: their curves, and which differences are more than the luck of the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmdet.apis import report_page as html
from mmdet.apis.report import DETECTIONS, IOU_THRS
from mmdet.apis.report_history import History
from mmdet.errors import UserFileError, UserValueError
from mmdet.evaluation.collected import Collected, average_precision_of, match


def load_run(folder: str | Path) -> Collected:
    """What a run detected at its best: of a work dir, of a report in it, or of the file itself."""
    folder = Path(folder)
    for path in (folder, folder / DETECTIONS, folder / 'report' / DETECTIONS):
        if path.is_file():
            return Collected.load(path)
    raise UserFileError(f'{folder} has no report/{DETECTIONS}: train or test with a report first')


def differences(
    first: Collected, second: Collected, draws: int = 200, seed: int = 0
) -> list[tuple[str, float, float, float, float, float]]:
    """For AP, AP50, AP75 and the AP of each class: both values, the difference, and its 95 % interval.

    The interval is that of a bootstrap over pictures, the same of them drawn for both runs.

    Raises:
        UserValueError: the runs were not measured on the same pictures and classes.
    """
    names = [[Path(path).name for path in run.paths] for run in (first, second)]
    if first.classes != second.classes:
        raise UserValueError('the two runs have different classes')
    if sorted(names[0]) != sorted(names[1]):
        raise UserValueError('the two runs were not measured on the same pictures')
    place = {name: index for index, name in enumerate(names[0])}
    order = np.array([place[name] for name in names[1]], dtype=int)
    if len(place) < len(names[0]):
        order = np.arange(len(names[0]))
    rights = [match(run, IOU_THRS)[0] for run in (first, second)]
    tables = lambda weights: [
        average_precision_of(first, rights[0], weights),
        average_precision_of(second, rights[1], None if weights is None else weights[order]),
    ]
    rng = np.random.default_rng(seed)
    count = len(first.paths)
    drawn = []
    for _ in range(draws):
        a, b = map(_numbers, tables(np.bincount(rng.integers(count, size=count), minlength=count).astype(float)))
        drawn.append(b - a)
    low, high = np.nanpercentile(np.array(drawn), [2.5, 97.5], axis=0)
    a, b = map(_numbers, tables(None))
    titles = ['AP', 'AP50', 'AP75', *first.classes]
    return [
        (title, *map(float, (x, y, y - x, lo, hi)))
        for title, x, y, lo, hi in zip(titles, a, b, low, high, strict=True)
        if np.isfinite(x)
    ]


def _numbers(table: np.ndarray) -> np.ndarray:
    """AP, AP50, AP75 and the AP of each class, of (T, K)."""
    known = np.isfinite(table[0])
    mean = table[:, known].mean(1) if known.any() else np.full(len(table), np.nan)
    return np.array([mean.mean(), mean[0], mean[5], *table.mean(0)])


def compare(
    first: str | Path, second: str | Path, out: str | Path = 'comparison.html', draws: int = 200
) -> list[tuple]:
    """Write a page that compares two runs, and give its rows of numbers."""
    rows = differences(load_run(first), load_run(second), draws)
    labels = [str(first), str(second)]
    note = (
        f'<p>The interval holds 95 % of {draws} draws of the pictures with repetition, the same for both. '
        'Where it holds 0 the difference may be luck.</p>'
    )
    cells = [(*row, 'yes' if row[4] > 0 or row[5] < 0 else 'no') for row in rows]
    head = ['', *labels, 'difference', 'from', 'to', 'beyond luck']
    sections = [('Numbers', note + html.table(head, cells))]
    histories = [History(folder) if Path(folder).is_dir() else None for folder in (first, second)]
    charts = []
    for title, part in (('loss', 'train'), ('lr', 'train')):
        series = {
            label: ([row['step'] for row in history.train], [row.get(title, np.nan) for row in getattr(history, part)])
            for label, history in zip(labels, histories)
            if history is not None
        }
        charts.append(html.lines(title, series, 'step'))
    names = [name for history in histories if history for name in history.columns(history.val)]
    for name in [name for name in dict.fromkeys(names) if name.endswith(('mAP', 'mAP_50'))]:
        series = {
            label: ([row['step'] for row in h.val], [row.get(name, np.nan) for row in h.val])
            for label, h in zip(labels, histories)
            if h is not None
        }
        charts.append(html.lines(name, series, 'epoch or step'))
    sections.append(('Training', html.row(*charts)))
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(html.page(f'{labels[0]} and {labels[1]}', sections), encoding='utf-8')
    return rows
