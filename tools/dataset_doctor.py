"""Look for mistakes in the data of a config: images, boxes, classes, splits, anchors."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.apis.arguments import add_doctor_arguments


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, epilog='The exit code is 1 when there are errors.')
    add_doctor_arguments(parser)
    return parser.parse_args(argv)


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import doctor, run_tool

    sys.exit(run_tool(doctor, arguments))
