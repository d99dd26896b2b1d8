"""How long the package takes to load and the tools to answer, in fresh processes that take turns.

    python benchmarks/start_up.py
    python benchmarks/start_up.py --only 'first prediction' --beside 'other-program predict docs/demo.jpg'

Prints medians of wall time, and of the processor's time, which other work on the machine changes little. What the
package adds to ``import torch, mmengine`` is the median of the differences turn by turn. A first prediction is one of
RTMDet-tiny with random weights on one picture by ``mmdet predict``, from a process that has imported nothing to a
drawing on the disk; ``--beside`` times any other program in turns with it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

ROOT = Path(__file__).resolve().parents[1]
BASE = 'import torch, mmengine'
TIMED = 'import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)'
COMMANDS = {
    BASE: [sys.executable, '-c', TIMED.format(BASE)],
    f'{BASE}, mmdet.models': [sys.executable, '-c', TIMED.format(f'{BASE}, mmdet.models')],
    'RetinaNet looked up': [
        sys.executable,
        '-c',
        TIMED.format(f"{BASE}; from mmdet.registry import MODELS; MODELS.get('RetinaNet'); MODELS.get('RetinaHead')"),
    ],
    'python -c pass': [sys.executable, '-c', 'pass'],
    'tools/train.py --help': [sys.executable, str(ROOT / 'tools' / 'train.py'), '--help'],
    'tools/test.py --help': [sys.executable, str(ROOT / 'tools' / 'test.py'), '--help'],
    'import mmdet': [sys.executable, '-c', 'import mmdet'],
    'mmdet --help': [sys.executable, '-m', 'mmdet', '--help'],
    'mmdet predict --help': [sys.executable, '-m', 'mmdet', 'predict', '--help'],
    'first prediction': [
        *(sys.executable, '-m', 'mmdet', 'predict', 'docs/demo.jpg', '--model', 'rtmdet-tiny', '--scratch'),
        *('--device', 'cpu', '--out', '{out}'),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7, help='timed turns, after one that fills the caches')
    parser.add_argument('--out', help='a JSON file for the results')
    parser.add_argument('--only', nargs='+', choices=COMMANDS, metavar='NAME', help='of these: %(choices)s')
    parser.add_argument('--beside', action='append', default=[], metavar='COMMAND', help='another program to time')
    args = parser.parse_args()
    commands = {name: command for name, command in COMMANDS.items() if not args.only or name in args.only}
    commands |= {f'beside: {shlex.split(command)[0]}': shlex.split(command) for command in args.beside}
    times: dict = {name: [] for name in commands}
    used: dict = {name: [] for name in commands}
    for turn in range(args.rounds + 1):
        for name, command in commands.items():
            with tempfile.TemporaryDirectory() as out:
                start, before = time.perf_counter(), os.times()
                output = run([word.replace('{out}', out) for word in command])
                seconds, after = time.perf_counter() - start, os.times()
            if 'perf_counter' in command[-1]:
                seconds = float(output.splitlines()[-1])
            if turn:
                times[name].append(seconds)
                used[name].append(after[2] + after[3] - before[2] - before[3])  # of child processes
    rows = []
    for name, values in times.items():
        added = ''
        if name != BASE and BASE in times and BASE in ' '.join(commands[name]):
            added = f'   adds {statistics.median(a - b for a, b in zip(values, times[BASE])):6.3f} s'
        processor = statistics.median(used[name])
        print(f'{name:40s} {statistics.median(values):6.3f} s   processor {processor:6.3f} s{added}')
        rows.append(report.row(f'start-up: {name}', statistics.median(values), 's'))
    report.save(args.out, rows)


def run(command: list[str]) -> str:
    done = subprocess.run(command, text=True, cwd=ROOT, capture_output=True)
    if done.returncode:
        raise SystemExit(f'{shlex.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}')
    return done.stdout


if __name__ == '__main__':
    main()
