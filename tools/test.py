"""Evaluate a detector."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.apis.arguments import add_test_arguments, export_local_rank


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    add_test_arguments(parser)
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must end with .pkl or .pickle, not {args.out!r}')
    export_local_rank(args)
    return args


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool, test

    sys.exit(run_tool(test, arguments))
