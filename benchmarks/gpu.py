"""What a GPU shows: its tests, training and inference beside the bare network and other libraries, and host syncs.

    python benchmarks/gpu.py --out work_dirs/gpu        # at most five minutes on one card
    python benchmarks/gpu.py --no-tests --models rtdetrv2_r50 dfine_l --compiled rtdetrv2_r50 dfine_l --size 640 640
    python benchmarks/gpu.py --no-tests --models rtdetrv2_r50 dfine_l --mode infer --batch 1 --size 640 640

Runs ``pytest -m gpu``, then for each detector the steps of ``detectors.py`` (bfloat16, channels-last, batch 16 of
800x1333, 20 boxes a picture) with one more candidate, the compiled networks of ``compile=True``. The candidates take
turns, so ratios are those of one run. Host syncs are the warnings of ``torch.cuda.set_sync_debug_mode('warn')`` in one
training step, from the forward of the network to the optimizer's, and in one batch of inference. Writes ``gpu.json``
and ``gpu.md``, a table for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import detectors
import report

ROOT = Path(__file__).resolve().parents[1]
USUAL = ['retinanet', 'fcos', 'atss', 'faster_rcnn', 'mask_rcnn', 'detr', 'deformable_detr']


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', default=USUAL, choices=list(detectors.CONFIGS))
    parser.add_argument('--mode', nargs='+', default=['train', 'infer'], choices=['train', 'infer'])
    parser.add_argument('--compiled', nargs='*', default=['retinanet', 'faster_rcnn', 'mask_rcnn'], metavar='MODEL')
    parser.add_argument('--size', nargs=2, type=int, default=[800, 1333], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--boxes', type=int, default=20)
    parser.add_argument('--dtype', default='bfloat16', choices=['float32', 'bfloat16'])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--no-channels-last', dest='channels_last', action='store_false')
    parser.add_argument('--no-tests', dest='tests', action='store_false')
    parser.add_argument('--seconds', type=int, default=300, help='no detector is begun after so many')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/gpu'))
    args = parser.parse_args()
    return argparse.Namespace(
        **vars(args),
        device='cuda',
        no_winograd=True,
        torchvision_trains_norms=False,
        optimize=None,
        compile=False,
        padded=False,
        cpu_time=False,
    )


def run_tests() -> dict:
    """Counts and the last lines of ``pytest -m gpu``."""
    start = time.perf_counter()
    command = [sys.executable, '-m', 'pytest', '-m', 'gpu', '-q', '-p', 'no:cacheprovider', '--timeout', '240', 'tests']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()[-12:]
    return dict(exit_code=done.returncode, seconds=round(time.perf_counter() - start, 1), output=lines)


def host_syncs(step) -> dict[str, int]:
    """Where the host waits for the device in one call of ``step``: file and line of the package -> how often."""
    import torch

    found: collections.Counter = collections.Counter()

    def note(message, category, filename, lineno, *_, **__):
        if 'called a synchronizing' not in str(message):  # not the note that the mode is a prototype
            return
        frame, place = sys._getframe(1), None
        while frame is not None and place is None:
            if '/mmdet/' in frame.f_code.co_filename:
                place = f'{frame.f_code.co_filename.rpartition("/mmdet/")[2]}:{frame.f_lineno}'
            frame = frame.f_back
        found[place or f'{filename}:{lineno}'] += 1

    with warnings.catch_warnings():
        warnings.simplefilter('always')
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode('warn')
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    return dict(found.most_common())


def compiled_steps(name: str, mode: str, args: argparse.Namespace) -> dict:
    """The candidate that ``compile=True`` makes."""
    steps = detectors.training_steps if mode == 'train' else detectors.inference_steps
    return {'compiled': steps(name, argparse.Namespace(**{**vars(args), 'compile': True}))['ours']}


def measure(name: str, mode: str, args: argparse.Namespace) -> dict:
    import torch

    steps = (detectors.training_steps if mode == 'train' else detectors.inference_steps)(name, args)
    row: dict = dict(model=name, mode=mode)
    steps['ours']()
    row['syncs'] = host_syncs(steps['ours'])
    if name in args.compiled:
        start = time.perf_counter()
        steps.update(compiled_steps(name, mode, args))
        steps['compiled']()
        torch.cuda.synchronize()
        row['compiling_seconds'] = round(time.perf_counter() - start, 1)
    row['results'] = detectors.measure(steps, args)
    bare = row['results']['bare network']['seconds']
    row['over_bare'] = {key: round(value['seconds'] / bare, 3) for key, value in row['results'].items()}
    return row


def as_table(rows: list[dict]) -> str:
    lines = [
        '| detector | mode | bare ms | ours ms | ours / bare | compiled / bare | other library | ours / other | '
        'compiled / other | host syncs | peak MiB | of the other |',
        '|---|---|---|---|---|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        found = row['results']
        ms = lambda key, found=found: f'{found[key]["seconds"] * 1000:.1f}' if key in found else '-'
        over = lambda a, b, found=found: (
            f'{found[a]["seconds"] / found[b]["seconds"]:.2f}' if a in found and b in found else '-'
        )
        other = next((name for name in ('torchvision', 'transformers') if name in found), '-')
        cells = [row['model'], row['mode'], ms('bare network'), ms('ours'), over('ours', 'bare network')]
        cells += [over('compiled', 'bare network'), other, over('ours', other), over('compiled', other)]
        cells += [str(sum(row['syncs'].values())), str(found['ours'].get('peak_mib', '-'))]
        cells += [str(found.get(other, {}).get('peak_mib', '-'))]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    import torch

    start, versions = time.perf_counter(), report.versions()
    print(f'{versions}, {torch.cuda.get_device_name()}, batch {args.batch} of {args.size[0]}x{args.size[1]}')
    args.out.mkdir(parents=True, exist_ok=True)
    content: dict = dict(versions=versions, device=torch.cuda.get_device_name(), date=time.strftime('%Y-%m-%d'))
    content['options'] = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    if args.tests:
        content['tests'] = run_tests()
        print('\n'.join(content['tests']['output']), flush=True)
    rows = content['rows'] = []
    for name in args.models:
        for mode in args.mode:
            if time.perf_counter() - start > args.seconds:
                print(f'{name} {mode} left out: {args.seconds} seconds are over')
                continue
            rows.append(measure(name, mode, args))
            torch.cuda.empty_cache()
            print(as_table(rows[-1:]).splitlines()[-1], rows[-1]['syncs'], flush=True)
            (args.out / 'gpu.json').write_text(json.dumps(content, indent=1))
    (args.out / 'gpu.md').write_text(as_table(rows) + '\n')
    content['seconds'] = round(time.perf_counter() - start, 1)
    (args.out / 'gpu.json').write_text(json.dumps(content, indent=1))
    print(f'\n{as_table(rows)}\n{content["seconds"]} s; gpu.json and gpu.md are in {args.out}')


if __name__ == '__main__':
    main()
