"""Precision, speed and size of checkpoints and exported files, side by side."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdet.config import load_config
from mmdet.engine.console import quiet_for_now
from mmdet.errors import UserError, UserValueError
from mmdet.export.exported_detector import fit_images
from mmdet.export.form import Exportable
from mmdet.export.metadata import Metadata
from mmdet.export.runtime import is_exported, open_file

from .exporting import Options, divisor_of, evaluate, network_inputs, reference, size_in_mb
from .inference import init_detector

WARM_UP = 3
"""Runs before those that count."""
MOST_PICTURES = 8
MAIN_METRICS = ('mAP', 'PQ')
"""Endings of names of metrics that are columns, besides the first two."""


def measure_all(args: argparse.Namespace, say: Callable[[str], Any] = print) -> bool:
    """Measure ``args.files`` one by one, say a table, and after it which could not be measured and why; whether all
    could."""
    rows, failures = [], []
    if args.runs < 1:
        raise UserValueError(f'--runs must be at least 1, not {args.runs}')
    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = load_config(args.config, args.cfg_options)
    for file in args.files:
        say(f'measuring {file}')
        try:
            with quiet_for_now():
                rows.append(measure(cfg, args, file))
        except UserError as error:  # a runtime that is not installed is no reason to lose the other rows
            failures.append(f'{file} is not measured: {error}')
    say('\n'.join(([as_table(rows)] if rows else []) + failures))
    return not failures


def measure(cfg: Any, args: argparse.Namespace, file: str) -> dict[str, Any]:
    """A row of the table: ``file``, ``kind``, ``MB``, ``ms``, ``input``, and metrics of the test data by their names.

    Times are those of one picture of the test data, in an input that is ready, until its detections are; drawing
    masks of exported files to the size of pictures is not part of it. Of a checkpoint, the size is that of the weights
    alone.
    """
    row: dict[str, Any] = dict(file=Path(file).name)
    run: Callable[[Tensor], Any]
    if is_exported(file):
        session = open_file(file, args.device)
        about, run, form = session.metadata, session, None
        row.update(kind=f'{about.format} {about.precision}', MB=size_in_mb(session.path))
    else:
        detector = init_detector(cfg, file, device=args.device)
        form = Exportable(detector)
        about = Metadata('', 'torch', dynamic_batch=True, dynamic_size=True, divisor=divisor_of(detector))
        about.fill = form.fill
        run = partial(reference, detector, form, metadata=about)
        row.update(kind='torch float32', MB=sum(map(_bytes, detector.state_dict().values())) / 1e6)
    inputs = inputs_for(cfg, about, args.size)
    batch = 1 if about.dynamic_batch else about.batch
    inputs = [image.expand(batch, -1, -1, -1).contiguous() for image in inputs]
    row['ms'] = milliseconds(run, [image if form is None else image.to(args.device) for image in inputs], args.runs)
    row['ms'] /= batch
    height, width = (max(image.shape[axis] for image in inputs) for axis in (2, 3))
    row['input'] = f'{height} x {width}'
    if not args.no_eval:
        found = evaluate(cfg, file, file if is_exported(file) else None)
        columns = [*list(found)[:2], *(name for name in found if name.endswith(MAIN_METRICS))]
        row.update({name: found[name] for name in columns})
    return row


def inputs_for(cfg: Any, about: Metadata, size: Sequence[int] | None = None) -> list[Tensor]:
    """The first pictures of the test data as a file takes them, ``[(1, 3, H, W)]``; noise if there are none.

    Args:
        size: Of an input of any size; else it is as the test pipeline makes it.
    """
    fixed = not about.dynamic_size
    if size is not None and not fixed:
        about, fixed = replace(about, size=list(size), dynamic_size=False), True
    options = Options(check_pictures=MOST_PICTURES)
    pictures = network_inputs(cfg, options, about.size, not fixed)
    return [fit_images(each['inputs'][None].float(), [each['data_samples']], about, 'it') for each in pictures]


def milliseconds(run: Callable[[Tensor], Any], inputs: Sequence[Tensor], runs: int) -> float:
    """The median time of a run, one input after the other."""
    seconds = []
    with torch.no_grad():
        for i in range(WARM_UP + runs):
            images = inputs[i % len(inputs)]
            start = time.perf_counter()
            run(images)
            if images.is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:]) * 1e3


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


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
