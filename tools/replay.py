"""Run a training step again that was recorded because its loss was not finite."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', help='nonfinite_iter_*.pth of a work dir')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1, ...')
    parser.add_argument(
        '--import', dest='imports', nargs='+', default=[], help='modules that register your own classes'
    )
    parser.add_argument('--anomaly', action='store_true', help='stop in the backward pass where a NaN first appears')
    return parser.parse_args(argv)


def main(args):
    from importlib import import_module

    from mmdet.engine.replay import replay
    from mmdet.utils.checkpoint import read_checkpoint

    for module in args.imports:
        import_module(module)
    record = read_checkpoint(args.file)
    losses = replay(args.file, args.device, args.anomaly)
    print(f'iteration {record["iter"] + 1}, rank {record["rank"]}, learning rate {record["lr"]}, images:')
    for path in record['images']:
        print(f'  {path}')
    for name, value in losses.items():
        then = record['losses'].get(name)
        mark = '' if value == value and abs(value) != float('inf') else '  <- not finite'
        print(f'{name:24s} {value:.6g} (then {then:.6g}){mark}')


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
