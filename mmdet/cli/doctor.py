"""Look for mistakes in the data of a config: images, boxes, classes, splits, anchors.

The exit code is 1 when there are errors.
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_doctor_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``tools/dataset_doctor.py``."""
    add_doctor_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Examine, and print and write what was found."""
    from mmdet.apis.launch import doctor

    return doctor(args)
