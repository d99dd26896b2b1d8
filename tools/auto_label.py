"""Label a folder of pictures by a detector: COCO JSON, ODVG with a label map, and a page of drawn results.

    python tools/auto_label.py pictures/ CONFIG --weights CHECKPOINT --out labels
    python tools/auto_label.py pictures/ CONFIG --weights CHECKPOINT --out labels --texts 'cat . traffic light .'

The second is for detectors that read. labels/index.html shows what was found; --class-thr cat=0.5 dog=0.35 says how
sure a detection must be, class by class.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.apis.arguments import add_label_arguments


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='folder of pictures, searched with its subfolders')
    parser.add_argument('model', help='config file, name of a config, or a checkpoint that carries its config')
    add_label_arguments(parser)
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmdet.apis.auto_label import label

    label(args)


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
