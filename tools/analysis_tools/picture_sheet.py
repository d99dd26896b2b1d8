"""Put the pictures of a folder, such as tools/test.py --show-dir leaves, on one sheet."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError

SUFFIXES = {'.jpg', '.jpeg', '.png'}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='folder with pictures, searched with its subfolders')
    parser.add_argument('out', type=Path, help='the sheet, .jpg or .png')
    parser.add_argument('--columns', type=int, default=3)
    parser.add_argument('--limit', type=int, default=12, help='how many pictures, evenly spread over the folder')
    parser.add_argument('--size', type=int, nargs=2, default=(400, 300), metavar=('WIDTH', 'HEIGHT'), help='of each')
    return parser.parse_args(argv)


def find_pictures(folder: Path, limit: int) -> list[Path]:
    """Up to ``limit`` pictures, evenly spread over those in ``folder`` in the order of their names."""
    paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserFileError(f'{folder} holds no picture ({", ".join(sorted(SUFFIXES))})')
    chosen = np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)
    return [paths[index] for index in chosen]


def read_picture(path: Path) -> np.ndarray:
    from mmdet.utils.pictures import read_picture as read

    return read(path)[..., ::-1]


def main(argv=None):
    args = parse_args(argv)
    from mmdet.visualization import draw_sheet

    paths = find_pictures(args.folder, args.limit)
    draw_sheet([read_picture(path) for path in paths], args.out, args.columns, tuple(args.size))
    print(f'{len(paths)} pictures on {args.out}')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
