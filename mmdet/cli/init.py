"""Look at a folder of data and write a config for it.

  mmdet init data/bccd --model rtmdet-tiny
  mmdet train bccd_rtmdet_tiny_8xb32-300e_coco/config.py

It reads COCO JSON, YOLO, PASCAL VOC, CVAT, LabelMe, Label Studio, CSV and FiftyOne, makes a validation split where
there is none, chooses size, batch, learning rate and epochs, looks for mistakes in the data, and says what it chose
and why.
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_data_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data, and what is not to be chosen."""
    parser.add_argument('data', help='folder with pictures and annotations, or an annotation file')
    add_data_arguments(parser)
    parser.add_argument('--out', metavar='FOLDER', help='folder for config.py and the annotations it reads')
    parser.add_argument('--work-dir', help='folder that training will write to (default: work_dirs/<name>)')
    parser.add_argument('--force', action='store_true', help='write over the config of an earlier call')


def run(args: argparse.Namespace) -> None:
    """Plan, write, examine, tell."""
    from mmdet.apis.own_run import init, options_of

    path = init(args.data, options_of(args), out=args.out, work_dir=args.work_dir, force=args.force)
    print(f'\nTrain with: mmdet train {path}')
