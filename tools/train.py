"""Train a detector."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.apis.arguments import add_train_arguments, export_local_rank


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    add_train_arguments(parser)
    args = parser.parse_args(argv)
    export_local_rank(args)
    return args


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool, train

    sys.exit(run_tool(train, arguments))
