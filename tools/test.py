"""Evaluate a detector."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.apis.arguments import add_common_arguments, export_local_rank


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to this pickle file')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='folder, inside the work dir, for pictures with the predictions drawn')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds to show each picture')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--optimize',
        choices=['fuse', 'bf16'],
        help='fuse: fold batch norms into convolutions; bf16: also run the network in bfloat16',
    )
    add_common_arguments(parser)
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must end with .pkl or .pickle, not {args.out!r}')
    export_local_rank(args)
    return args


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool, test

    sys.exit(run_tool(test, arguments))
