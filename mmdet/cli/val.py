"""Measure a trained detector: on the test data of its config, or on a folder of other data.

mmdet val work_dirs/mine                          # the best checkpoint of a training
mmdet val my_config.py work_dirs/mine/epoch_12.pth
mmdet val rtmdet-tiny --data data/coco            # published weights
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_test_arguments, check_test_arguments, export_local_rank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``tools/test.py``, of which the checkpoint may be left out, and other data."""
    add_test_arguments(
        parser,
        'folder of a training, config file, or name of a config',
        nargs='?',
        help='checkpoint file or URL (default: the best of the folder, or the published one)',
    )
    parser.add_argument('--data', help='folder of data to measure on, in any format that mmdet convert reads')
    parser.add_argument('--split', default='val', help='of that data (val)')


def run(args: argparse.Namespace) -> None:
    """Test."""
    from mmdet.apis.detector import locate
    from mmdet.apis.launch import test
    from mmdet.errors import UserValueError
    from mmdet.export.runtime import is_exported

    check_test_arguments(args)
    if not (is_exported(args.config) or is_exported(args.checkpoint)):
        config, args.checkpoint = locate(args.config, args.checkpoint)
        if config is None:
            raise UserValueError(f'{args.config} is a checkpoint: give the config first, or the folder of the training')
        args.config = str(config)
    export_local_rank(args)
    test(args)
