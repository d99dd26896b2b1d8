"""Train a detector."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.apis.arguments import add_common_arguments, export_local_rank


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by (real batch size) / (auto_scale_lr.base_batch_size of the config)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from a checkpoint; without a path, from the newest readable one of the work dir',
    )
    add_common_arguments(parser)
    args = parser.parse_args(argv)
    export_local_rank(args)
    return args


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool, train

    sys.exit(run_tool(train, arguments))
