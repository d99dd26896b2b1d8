"""Everything beside the network: targets and losses, decoding and NMS, loading, evaluation, engine, start-up.

Runs the other benchmarks of this folder one after another, each in a process of its own, with their usual settings.

    python benchmarks/parts.py --images data/bccd
    python benchmarks/parts.py --images data/bccd --only postprocess data_loading --out work_dirs/benchmarks

Prints what they print and one table; ``--out FOLDER`` writes that as ``parts.json`` and the ratios as ``parts.png``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import report

HERE = Path(__file__).resolve().parent
PARTS = ('targets', 'many_objects', 'postprocess', 'data_loading', 'coco_eval', 'engine_overhead', 'start_up')
WITH_DEVICE = ('targets', 'postprocess', 'data_loading')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', default=list(PARTS), choices=PARTS, metavar='PART', help=', '.join(PARTS))
    parser.add_argument('--images', type=Path, help='folder of pictures for data_loading, which is left out without it')
    parser.add_argument('--device', default='cpu', help=f'of {", ".join(WITH_DEVICE)}')
    parser.add_argument('--rounds', type=int, help='timed turns, instead of those that each part has')
    parser.add_argument('--out', type=Path, help='folder for parts.json and parts.png')
    return parser.parse_args()


def options_of(name: str, args: argparse.Namespace) -> list[str]:
    options = ['--device', args.device] if name in WITH_DEVICE else []
    if name == 'data_loading':
        options += ['--images', str(args.images), '--stages']
    if args.rounds and name != 'many_objects':
        options += ['--repetitions' if name == 'engine_overhead' else '--rounds', str(args.rounds)]
    return options


def plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    compared = [row for row in rows if 'peer' in row][::-1]
    figure, axis = plt.subplots(figsize=(9, 0.45 * len(compared) + 1))
    axis.barh([f'{row["part"]}\nbeside {row["peer_name"]}' for row in compared], [r['times_as_good'] for r in compared])
    axis.axvline(1, color='black', linewidth=1)
    axis.tick_params(axis='y', labelsize=7)
    axis.set_xlabel('times as good')
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    args = parse_args()
    rows: list[dict] = []
    for name in args.only:
        if name == 'data_loading' and args.images is None:
            print('data_loading is left out: it needs --images FOLDER', flush=True)
            continue
        print(f'== {name}', flush=True)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / 'rows.json'
            command = [sys.executable, str(HERE / f'{name}.py'), *options_of(name, args), '--out', str(out)]
            subprocess.run(command, check=True)
            rows += json.loads(out.read_text())['rows']
    print(f'\n{"part":58s} {"ours":>9s} {"peer":>9s} unit')
    for row in rows:
        peer = f'{row["peer"]:9.3f}' if 'peer' in row else ' ' * 9
        ratio = f'{row["times_as_good"]:.2f} times as good as {row["peer_name"]}' if 'peer' in row else ''
        print(f'{row["part"]:58s} {row["ours"]:9.3f} {peer} {row["unit"]:18s} {ratio}')
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        report.save(args.out / 'parts.json', rows)
        if any('peer' in row for row in rows):
            plot(rows, args.out / 'parts.png')


if __name__ == '__main__':
    main()
