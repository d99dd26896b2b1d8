"""Precision on the test data, time for a picture and size of checkpoints and exported files.

mmdet benchmark my_config.py epoch_12.pth detector.onnx detector.pt2
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_benchmark_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, and how often."""
    add_benchmark_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, and print a table; 1 if a file could not be measured."""
    from mmdet.apis.benchmarking import measure_all

    return int(not measure_all(args))
