"""Label a folder of pictures by a detector, for a person to correct: COCO, ODVG, a page of drawings, other formats.

  mmdet label pictures/ --model work_dirs/mine --class-thr cat=0.5
  mmdet label pictures/ --model mm_grounding_dino_tiny_o365_goldg --texts cat "traffic light" --save-as cvat yolo

The second is for detectors that read. What cannot be read is listed at the end.
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_label_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``tools/auto_label.py``."""
    parser.add_argument('folder', help='folder of pictures, searched with its subfolders')
    parser.add_argument(
        '--model', default='rtmdet-tiny', help='name, config, checkpoint with its config, or folder of a training'
    )
    add_label_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Detect and write."""
    from mmdet.apis.auto_label import label

    label(args)
