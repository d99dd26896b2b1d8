"""``mmdet init`` and ``mmdet train DATA`` once their arguments are parsed."""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmdet.config import resolve_config
from mmdet.engine.console import quiet_for_now
from mmdet.errors import UserFileError, UserValueError

from .arguments import parse_size
from .own_config import config_text
from .own_data import Options, make_plan, write_annotations

STOPS = ('missing image', 'corrupt image', 'no images', 'unreadable file', 'unusable data set', 'unusable sample')
"""Kinds of problems with which no training begins."""
START_APART, LONGEST_WAIT = 120, 1800
"""Seconds that the processes of a job may start apart, and that they wait for the first."""
MOST_TO_OPEN = 2000
"""Pictures that are decoded before a training; of more data only their presence is looked at."""


def options_of(args: argparse.Namespace) -> Options:
    """The options of :func:`mmdet.apis.arguments.add_data_arguments`."""
    size = parse_size(args.size)
    weights: Any = args.weights
    if args.scratch:
        if args.weights is not None:
            raise UserValueError(f'--scratch means no weights, but --weights {args.weights} is given')
        weights = False
    own = {key: getattr(args, key) for key in ('epochs', 'batch', 'lr', 'workers')}
    for key, value in own.items():
        if value is not None and (value < 0 or (value == 0 and key != 'workers')):
            raise UserValueError(f'--{key} must be positive, not {value}')
    options = Options(**own, weights=weights, size=size, seed=args.seed, share=args.val_share, format=args.data_format)
    if args.model is not None:
        options.model = args.model
    return options


def init(
    data: str | Path,
    options: Options,
    out: str | Path | None = None,
    work_dir: str | None = None,
    force: bool = False,
    brief: bool = False,
) -> Path:
    """Write ``config.py`` and annotations into a folder; returns the path of the config.

    Args:
        brief: Say what a training does not say itself, and of mistakes in the data only how many there are.

    Raises:
        UserError: the data or the model cannot be used, or there is such a config already.
    """
    from mmdet.apis.launch import print_once
    from mmdet.checks import as_text, examine
    from mmdet.config import load_config

    plan = make_plan(data, options)
    folder = Path(out) if out is not None else Path(plan.name)
    path = folder / 'config.py'
    if path.exists() and not force:
        raise UserFileError(f'there is a config {str(path)!r} already; --force writes a new one')
    notes = '; '.join(text for subject, text in plan.reasons if not subject)
    for subject, text in plan.reasons:
        if not brief or subject not in ('model', 'classes', ''):
            print_once(f'{subject:8} {text}')
        if brief and subject == 'data' and notes:
            print_once(f'{"":8} {notes}')
    folder.mkdir(parents=True, exist_ok=True)
    write_annotations(plan, folder.absolute())
    text = config_text(plan, folder.absolute(), work_dir or f'work_dirs/{plan.name}')
    path.write_text(text, encoding='utf-8')
    print_once(f'config   {path}')
    with quiet_for_now():
        diagnosis = examine(load_config(path), read_images=len(plan.data.pictures) <= MOST_TO_OPEN)
    if diagnosis.problems and brief:
        kinds = Counter(problem.kind for problem in diagnosis.problems)
        found = ', '.join(f'{kind}: {count}' for kind, count in kinds.most_common())
        print_once(f'doctor   {found}; mmdet doctor {shlex.quote(str(data))} lists them')
    elif diagnosis.problems:
        print_once(as_text(diagnosis, limit=3))
    stopping = [problem for problem in diagnosis.problems if problem.kind in STOPS]
    if stopping:
        first = stopping[0]
        more = f' ({len(stopping) - 1} more problems like this)' if len(stopping) > 1 else ''
        raise UserValueError(
            f'{first.kind} in {first.split}: {first.where}: {first.detail}{more}; repair the data and begin again'
        )
    return path


@contextmanager
def config_for(data: str | Path) -> Iterator[Path]:
    """A config of a folder of data for the while, to look at the data through it."""
    plan = make_plan(data, Options(weights=False))
    with tempfile.TemporaryDirectory() as folder:
        write_annotations(plan, Path(folder))
        path = Path(folder, 'config.py')
        path.write_text(config_text(plan, Path(folder), folder), encoding='utf-8')
        yield path


def is_data(target: str) -> bool:
    """Whether what a person wants to train on is data and no config: a folder, or an annotation file."""
    path = Path(target).expanduser()
    if path.is_dir():
        return True
    return (
        path.is_file() and path.suffix.lower() in ('.json', '.xml', '.csv', '.yaml', '.yml') and _is_annotations(path)
    )


def _is_annotations(path: Path) -> bool:
    from mmdet.datasets.formats import detect_format

    try:
        return bool(detect_format(path))
    except UserValueError:
        return False


def train_on_data(args: argparse.Namespace) -> Path:
    """``mmdet train DATA``: the config that is to be trained, written below the work dir or found there by --resume."""
    options = options_of(args)
    stem = resolve_config(options.model).stem
    name = Path(args.config).expanduser().absolute()
    work_dir = args.work_dir or f'work_dirs/{(name if name.is_dir() else name.parent).name}_{stem}'
    folder = Path(work_dir) / 'data'
    path = folder / 'config.py'
    if args.resume and path.is_file():
        return path
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))) == 0:
        return init(args.config, options, out=folder, work_dir=work_dir, force=True, brief=True)
    _wait_for(path, time.time() - START_APART)
    return path


def _wait_for(path: Path, since: float) -> None:
    """Until the first process of a job has written a config, and not an earlier job."""
    for _ in range(LONGEST_WAIT):
        if path.is_file() and path.stat().st_mtime >= since:
            return
        time.sleep(1)
    raise UserFileError(f'the first process of the job has not written {str(path)!r} within {LONGEST_WAIT} s')
