"""Look for mistakes in the data of a config: images, boxes, classes, splits, anchors."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.apis.arguments import DictAction


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, epilog='The exit code is 1 when there are errors.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--json', metavar='FILE', help='also write everything that was found as JSON')
    parser.add_argument('--html', metavar='FILE', help='also write a page with the worst pictures drawn')
    parser.add_argument('--limit', type=int, default=10, help='problems of each kind to print')
    parser.add_argument('--no-images', action='store_true', help='do not open the images')
    parser.add_argument('--workers', type=int, default=4, help='threads that read images')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as in train.py')
    return parser.parse_args(argv)


def main(args):
    from pathlib import Path

    from mmdet.checks import as_html, as_json, as_text, examine
    from mmdet.config import load_config

    diagnosis = examine(load_config(args.config, args.cfg_options), not args.no_images, args.workers)
    print(as_text(diagnosis, args.limit))
    for path, write in ((args.json, as_json), (args.html, as_html)):
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(write(diagnosis), encoding='utf-8')
    return int(diagnosis.has_errors)


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
