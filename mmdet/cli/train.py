"""Train a detector on a folder of data, or by a config: a file, mmdet::family/config.py, or the name of one of ours.

mmdet train data/bccd                              # any data: chooses and tells, see mmdet init
mmdet train data/bccd --model dfine-s --epochs 30
mmdet train retinanet_r50 --work-dir work_dirs/mine
mmdet train my_config.py --resume
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_data_arguments, add_train_arguments, export_local_rank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``tools/train.py``, and those of ``mmdet init``."""
    add_train_arguments(parser, 'folder of data, annotation file, config file, or name of a config')
    add_data_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Train."""
    from mmdet.apis.launch import train
    from mmdet.apis.own_run import is_data, train_on_data
    from mmdet.errors import UserValueError

    export_local_rank(args)
    if is_data(args.config):
        args.config = str(train_on_data(args))
    else:
        given = [key for key in ('model', 'weights', 'epochs', 'batch', 'size', 'lr', 'workers') if getattr(args, key)]
        if given or args.scratch:
            shown = f'--{given[0]}' if given else '--scratch'
            raise UserValueError(f'{shown} is for a folder of data; for {args.config!r} use --cfg-options')
    train(args)
