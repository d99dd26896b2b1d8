"""How long the package takes to load and the tools to answer, in fresh processes that take turns.

    python benchmarks/start_up.py

Prints medians. What the package adds to ``import torch, mmengine`` is the median of the differences turn by turn.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
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
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7, help='timed turns, after one that fills the caches')
    parser.add_argument('--out', help='a JSON file for the results')
    args = parser.parse_args()
    times: dict = {name: [] for name in COMMANDS}
    for turn in range(args.rounds + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            output = subprocess.check_output(command, text=True, cwd=ROOT)
            seconds = time.perf_counter() - start
            if 'perf_counter' in command[-1]:
                seconds = float(output.splitlines()[-1])
            if turn:
                times[name].append(seconds)
    rows = []
    for name, values in times.items():
        added = ''
        if name != BASE and BASE in ' '.join(COMMANDS[name]):
            added = f'   adds {statistics.median(a - b for a, b in zip(values, times[BASE])):6.3f} s'
        print(f'{name:40s} {statistics.median(values):6.3f} s   fastest {min(values):6.3f} s{added}')
        rows.append(report.row(f'start-up: {name}', statistics.median(values), 's'))
    report.save(args.out, rows)


if __name__ == '__main__':
    main()
