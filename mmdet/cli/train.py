"""Train a detector by a config: a file, mmdet::family/config.py, or the name of one of ours.

mmdet train retinanet_r50 --work-dir work_dirs/mine
mmdet train my_config.py --resume
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_train_arguments, export_local_rank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``tools/train.py``."""
    add_train_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Train."""
    from mmdet.apis.launch import train

    export_local_rank(args)
    train(args)
