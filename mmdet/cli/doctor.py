"""Look for mistakes in data, alone or as a config uses them: images, boxes, classes, splits, anchors.

  mmdet doctor data/bccd
  mmdet doctor my_config.py --html doctor.html

The exit code is 1 when there are errors.
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_doctor_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``tools/dataset_doctor.py``."""
    add_doctor_arguments(parser, 'folder of data, annotation file, config file, or name of a config')


def run(args: argparse.Namespace) -> int:
    """Examine, and print and write what was found."""
    from mmdet.apis.launch import doctor
    from mmdet.apis.own_run import config_for, is_data

    if not is_data(args.config):
        return doctor(args)
    with config_for(args.config) as path:
        args.config = str(path)
        return doctor(args)
