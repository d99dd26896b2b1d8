"""Measure a trained detector on the test data of its config.

mmdet val my_config.py work_dirs/mine/epoch_12.pth
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_test_arguments, check_test_arguments, export_local_rank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``tools/test.py``."""
    add_test_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Test."""
    from mmdet.apis.launch import test

    check_test_arguments(args)
    export_local_rank(args)
    test(args)
