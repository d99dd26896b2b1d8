"""Precision, speed and size of checkpoints and exported files, side by side."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mmdet.config import load_config
from mmdet.errors import UserValueError
from mmdet.export.form import Exportable
from mmdet.export.runtime import is_exported, open_file

from .exporting import SIZE, evaluate, size_in_mb
from .inference import init_detector

WARM_UP = 3
"""Runs before those that count."""


def measure(args: argparse.Namespace, file: str) -> dict[str, Any]:
    """A row of the table: ``file``, ``kind``, ``MB``, ``ms``, and the first metric of the test data by its name.

    Times are those of one picture, in an input that is ready, until its detections are.
    """
    if args.runs < 1:
        raise UserValueError(f'--runs must be at least 1, not {args.runs}')
    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = load_config(args.config, args.cfg_options)
    row: dict[str, Any] = dict(file=Path(file).name)
    run: Callable[[torch.Tensor], Any]
    if is_exported(file):
        session = open_file(file, args.device)
        about = session.metadata
        size, batch, run = tuple(about.size), 1 if about.dynamic_batch else about.batch, session
        if about.dynamic_size and args.size:
            size = tuple(args.size)
        row.update(kind=f'{about.format} {about.precision}', MB=size_in_mb(session.path))
    else:
        form = Exportable(init_detector(cfg, file, device=args.device))
        size, batch, run = tuple(args.size or SIZE), 1, form
        row.update(kind='torch float32', MB=size_in_mb(Path(file)))
    images = torch.randint(0, 256, (batch, 3, *size), generator=torch.Generator().manual_seed(0)).float()
    row['ms'] = milliseconds(run, images.to(args.device) if not is_exported(file) else images, args.runs) / batch
    row['input'] = f'{size[0]} x {size[1]}'
    if not args.no_eval:
        found = evaluate(cfg, file, file if is_exported(file) else None)
        row.update(list(found.items())[:2])
    return row


def milliseconds(run: Callable[[torch.Tensor], Any], images: torch.Tensor, runs: int) -> float:
    """The median time of a run."""
    seconds = []
    with torch.no_grad():
        for _ in range(WARM_UP + runs):
            start = time.perf_counter()
            run(images)
            if images.is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:]) * 1e3


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as text in columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = [names, *[[_cell(row.get(name)) for name in names] for row in rows]]
    widths = [max(len(line[i]) for line in text) for i in range(len(names))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in text)


def _cell(value: Any) -> str:
    if value is None:
        return '-'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
