"""What a folder of a training knows: its numbers over all resumes, its config, its files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NOT_NUMBERS = {'step', 'iter', 'epoch', 'time', 'data_time', 'memory', 'eta'}


class History:
    """``train`` and ``val`` are rows in the order of their steps; what a resumed run did again counts once."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.train: list[dict] = []
        self.val: list[dict] = []
        self.runs = 0
        for path in sorted(self.folder.glob('*/vis_data/scalars.json')):
            train, val = _rows(path)
            if train:
                self.runs += 1
                first = train[0]['step']
                self.train = [row for row in self.train if row['step'] < first] + train
                known = self._last_val(first)
                self.val = [row for row in self.val if known(row)]
            self.val += val if train else []
        self.val = list({row.get('step', i): row for i, row in enumerate(self.val)}.values())

    def _last_val(self, first: int) -> Any:
        epochs = [row['epoch'] for row in self.train if row['step'] < first and 'epoch' in row]
        last = max(epochs, default=0)
        return lambda row: row.get('step', 0) <= (last if self.by_epoch else first)

    @property
    def by_epoch(self) -> bool:
        """Whether validations are counted in epochs: their steps are far below those of training."""
        return bool(self.train) and all('epoch' in row for row in self.train)

    def columns(self, rows: Iterable[Mapping]) -> list[str]:
        """Names of the numbers in rows, in the order in which they come."""
        names: dict[str, None] = {}
        for row in rows:
            names.update(dict.fromkeys(k for k, v in row.items() if _is_number(v) and k not in NOT_NUMBERS))
        return list(names)

    def write_csv(self, path: str | Path) -> None:
        """One row for each validation, with the means of the training since the one before."""
        losses = [name for name in self.columns(self.train) if 'loss' in name or name == 'lr']
        metrics = self.columns(self.val)
        unit = 'epoch' if self.by_epoch else 'step'
        ends = [row['step'] for row in self.val] or sorted({row.get('epoch', row['step']) for row in self.train})
        with open(path, 'w', newline='', encoding='utf-8') as file:
            table = csv.writer(file)
            table.writerow([unit, *losses, *metrics])
            before = 0
            for end in ends:
                key = 'epoch' if self.by_epoch else 'step'
                rows = [row for row in self.train if before < row.get(key, 0) <= end]
                val = next((row for row in self.val if row['step'] == end), {})
                table.writerow([end, *(_mean(rows, name) for name in losses), *(val.get(name, '') for name in metrics)])
                before = end


def _rows(path: Path) -> tuple[list[dict], list[dict]]:
    train, val = [], []
    for line in path.read_text(encoding='utf-8').splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            continue
        if not isinstance(row, dict) or not _is_number(row.get('step')):
            continue
        (train if 'loss' in row or 'lr' in row else val).append(row)
    return train, val


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mean(rows: list[dict], name: str) -> float | str:
    values = [row[name] for row in rows if _is_number(row.get(name))]
    return round(sum(values) / len(values), 6) if values else ''
