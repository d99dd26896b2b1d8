"""Curves and training time from the JSON logs of training runs.

A log is ``WORK_DIR/TIME/vis_data/scalars.json``; a folder stands for the newest log in it.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import os
import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserKeyError, UserValueError

PANELS = ('loss', 'metric', 'other')
LABELS = {'loss': 'loss', 'metric': 'score', 'other': 'value'}


class Log:
    """The scalars of one run: ``train`` and ``val`` are lists of dicts, in order of writing."""

    def __init__(self, path: str) -> None:
        self.path = find_log(Path(path))
        self.train: list[dict] = []
        self.val: list[dict] = []
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                print(f'{self.path}:{number} is not JSON and is left out', file=sys.stderr)
                continue
            (self.train if 'lr' in entry or 'loss' in entry else self.val).append(entry)
        if not self.train and not self.val:
            raise UserValueError(f'{self.path} holds no scalars.')
        first: dict[int, int] = {}  # epoch -> its first logged iteration
        for entry in self.train:
            if 'epoch' in entry and 'step' in entry:
                first.setdefault(entry['epoch'], entry['step'])
        lengths = [(first[b] - first[a]) / (b - a) for a, b in itertools.pairwise(sorted(first))]
        self.num_epochs = max(first, default=0)
        self.per_epoch = (
            statistics.median(lengths) if lengths else max((e.get('step', 0) for e in self.train), default=0)
        )
        # validation after an epoch is logged with the epoch as its step, else with the iteration
        steps = [entry['step'] for entry in self.val if 'step' in entry]
        self.val_by_epoch = bool(steps and first) and max(steps) <= self.num_epochs

    def keys(self) -> list[str]:
        names = {name for entry in self.train + self.val for name, value in entry.items() if is_number(value)}
        return sorted(names - {'step', 'iter', 'epoch'})

    def resolve(self, key: str) -> str:
        """The full name of a key: ``bbox_mAP`` stands for ``coco/bbox_mAP``."""
        names = self.keys()
        if key in names:
            return key
        ends = [name for name in names if name.rsplit('/', 1)[-1] == key]
        if len(ends) == 1:
            return ends[0]
        near = difflib.get_close_matches(key, names, n=3, cutoff=0.4) or names
        raise UserKeyError(f'{self.path} has no key {key!r}. Did you mean {", ".join(near)}?')

    def curve(self, key: str, start_epoch: int = 1) -> tuple[list[float], list[float]]:
        """Iterations and values."""
        xs, ys = [], []
        for entries, by_epoch in ((self.train, False), (self.val, self.val_by_epoch)):
            for entry in entries:
                if key not in entry or entry.get('epoch', start_epoch) < start_epoch:
                    continue
                step = entry.get('step', entry.get('iter', len(xs) + 1))
                if by_epoch:
                    if step < start_epoch:
                        continue
                    step *= self.per_epoch
                xs.append(step)
                ys.append(entry[key])
        return xs, ys


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def find_log(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.rglob('vis_data/scalars.json'), key=lambda file: file.stat().st_mtime)
    if not found:
        raise UserFileError(f'There is no log at {path}: neither a JSON file nor a folder with vis_data/scalars.json.')
    return found[-1]


def panel_of(key: str) -> str:
    if 'loss' in key.lower():
        return 'loss'
    return 'metric' if '/' in key or any(name in key for name in ('mAP', 'AP', 'AR', 'recall', 'acc')) else 'other'


def smoothed(values: list[float], weight: float) -> list[float]:
    """Exponential moving average, unbiased at the start."""
    result, total, mass = [], 0.0, 0.0
    for value in values:
        total, mass = weight * total + (1 - weight) * value, weight * mass + 1 - weight
        result.append(total / mass)
    return result


def plot_curve(logs: list[Log], args: argparse.Namespace) -> None:
    """Losses, scores and other values in a panel each over one axis of iterations."""
    import matplotlib

    from mmdet.visualization.text import plain_text
    from mmdet.visualization.window import require_display

    backend = args.backend or ('Agg' if args.out else None)
    if backend:
        matplotlib.use(backend)
    if args.out is None:
        require_display('--out FILE writes the figure')
    import matplotlib.pyplot as plt

    plt.style.use({'dark': 'dark_background', 'white': 'default'}.get(args.style, args.style))
    panels = defaultdict(list)
    for index, log in enumerate(logs):
        for number, key in enumerate(args.keys):
            name = log.resolve(key)
            label = name if len(logs) == 1 else f'{run_name(log, logs)}: {name}'
            if args.legend:
                label = args.legend[index * len(args.keys) + number]
            panels[panel_of(name)].append((label, *log.curve(name, args.start_epoch)))
    used = [panel for panel in PANELS if panels[panel]]
    figure, axes = plt.subplots(len(used), 1, sharex=True, squeeze=False, figsize=(8, 1 + 3.2 * len(used)))
    for panel, axis in zip(used, axes[:, 0], strict=True):
        for label, xs, ys in panels[panel]:
            marker = 'o' if len(xs) <= 30 else None
            label = plain_text(label)
            (line,) = axis.plot(xs, ys, label=label, marker=marker, markersize=4, linewidth=1.6)
            if args.smooth and panel != 'metric' and len(xs) > 2:
                line.set_alpha(0.25)
                line.set_label(None)
                axis.plot(xs, smoothed(ys, args.smooth), color=line.get_color(), label=label, linewidth=1.8)
        axis.set_ylabel(LABELS[panel])
        axis.grid(True, alpha=0.3)
        for side in ('top', 'right'):
            axis.spines[side].set_visible(False)
        if panel == 'metric':
            values = [value for _, _, ys in panels[panel] for value in ys]
            if values and min(values) >= 0 and max(values) <= 1:
                axis.set_ylim(0, min(1.0, 1.1 * max(values) + 0.02))
        if panel == 'loss':
            axis.set_ylim(bottom=0)
        axis.legend(loc='best', frameon=False, fontsize=9, ncols=2 if len(panels[panel]) > 4 else 1)
    axes[-1, 0].set_xlabel('iteration')
    if len(logs) == 1 and logs[0].num_epochs > 1:
        add_epoch_axis(axes[0, 0], logs[0].per_epoch)
    if args.title:
        figure.suptitle(plain_text(args.title))
    figure.tight_layout()
    if args.out is None:
        plt.show()
        return
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=150)
    plt.close(figure)
    print(f'saved {args.out}')


def add_epoch_axis(axis, per_epoch: float) -> None:
    """Epoch numbers on top, at the iterations where they end; about ten of them."""
    top = axis.secondary_xaxis('top', functions=(lambda x: x / per_epoch, lambda x: x * per_epoch))
    top.set_xlabel('epoch')
    top.xaxis.get_major_locator().set_params(integer=True, nbins=10)


def run_name(log: Log, logs: list[Log]) -> str:
    """The shortest tail of folders that tells the runs apart."""
    folders = [other.path.resolve().parent for other in logs]
    own = log.path.resolve().parent.relative_to(os.path.commonpath(folders))
    rest = [part for part in own.parts if part != 'vis_data']
    return '/'.join(rest) or log.path.stem


def cal_train_time(logs: list[Log], args: argparse.Namespace) -> None:
    """Time of an iteration by epoch; the first entry of an epoch, which waits for the loader, is left out."""
    for log in logs:
        print(f'{"-" * 5}Analyze train time of {log.path}{"-" * 5}')
        by_epoch = defaultdict(list)
        for entry in log.train:
            if 'time' in entry:
                by_epoch[entry.get('epoch', 1)].append(entry['time'])
        if not by_epoch:
            raise UserKeyError(f"{log.path} has no key 'time': without it there is no training time.")
        means = {}
        for epoch, times in by_epoch.items():
            kept = times if args.include_outliers or len(times) == 1 else times[1:]
            means[epoch] = statistics.fmean(kept)
        slowest, fastest = max(means, key=means.get), min(means, key=means.get)
        print(f'slowest epoch {slowest}, average time is {means[slowest]:.4f} s/iter')
        print(f'fastest epoch {fastest}, average time is {means[fastest]:.4f} s/iter')
        print(f'time std over epochs is {statistics.pstdev(means.values()):.4f}')
        print(f'average iter time: {statistics.fmean(means.values()):.4f} s/iter\n')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = parser.add_subparsers(dest='task', required=True)
    plot = tasks.add_parser('plot_curve', help='plot curves')
    plot.add_argument('json_logs', nargs='+', help='logs, or work directories')
    plot.add_argument('--keys', nargs='+', default=['bbox_mAP'], help='what to plot, for example loss bbox_mAP')
    plot.add_argument('--start-epoch', type=int, default=1)
    plot.add_argument('--eval-interval', type=int, default=1, help='not needed: logs say when they were validated')
    plot.add_argument('--title')
    plot.add_argument('--legend', nargs='+', help='a label for each key of each log')
    plot.add_argument('--backend', help='of matplotlib')
    plot.add_argument('--style', default='white', help="'white', 'dark' or a style of matplotlib")
    plot.add_argument(
        '--smooth', type=float, default=0.0, help='weight of a moving average of the training curves, 0 (none) to 1'
    )
    plot.add_argument('--out', help='a file to write; without it a window opens')
    time = tasks.add_parser('cal_train_time', help='average time of an iteration')
    time.add_argument('json_logs', nargs='+', help='logs, or work directories')
    time.add_argument('--include-outliers', action='store_true', help='count the first entry of each epoch as well')
    args = parser.parse_args(argv)
    legend = getattr(args, 'legend', None)
    if legend and len(legend) != len(args.json_logs) * len(args.keys):
        parser.error(f'--legend needs {len(args.json_logs) * len(args.keys)} labels (logs x keys), got {len(legend)}')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        logs = [Log(path) for path in args.json_logs]
        {'plot_curve': plot_curve, 'cal_train_time': cal_train_time}[args.task](logs, args)
    except (FileNotFoundError, ValueError, KeyError) as error:
        sys.exit(f'error: {error.args[0]}')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
