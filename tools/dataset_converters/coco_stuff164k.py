"""Number the maps of COCO-Stuff 164k by its 171 classes, in the order of CocoSegDataset.

    python tools/dataset_converters/coco_stuff164k.py data/coco

Reads stuffthingmaps/{train2017,val2017}/*.png, whose labels have gaps, and writes stuffthingmaps_semseg/ with the same
names; 255 stays what has no class.
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserValueError

SPLITS = ('train2017', 'val2017')
VOID = 255
LAST = 181


def table():
    """The class of each label of the files, -1 for those that no file has."""
    import numpy as np

    from mmdet.datasets.coco_semantic import UNUSED

    used = [label for label in range(LAST + 1) if label not in UNUSED]
    classes = np.full(256, -1, dtype=np.int64)
    classes[used] = np.arange(len(used))
    classes[VOID] = VOID
    return classes


def convert(path, out, classes):
    """Write one map anew."""
    import cv2

    from mmdet.utils.pictures import read_picture

    labels = read_picture(str(path), flag='unchanged')
    if labels.ndim != 2 or labels.dtype != 'uint8':
        raise UserValueError(f'{path} is no map of bytes, but {labels.dtype} of the shape {labels.shape}')
    numbered = classes[labels]
    if (numbered < 0).any():
        raise UserValueError(f'{path} has the label {int(labels[numbered < 0][0])}, which COCO-Stuff does not have')
    if not cv2.imwrite(str(out / path.name), numbered.astype('uint8')):
        raise OSError(f'{out / path.name} could not be written')


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('coco_path', type=Path, help='folder with stuffthingmaps/')
    parser.add_argument('-o', '--out_dir', '--out-dir', type=Path, help='folder to write to (default: coco_path)')
    parser.add_argument('--nproc', type=int, default=16, help='files that are written at the same time (16)')
    args = parser.parse_args(argv)
    classes, found = table(), False
    for split in SPLITS:
        folder = args.coco_path / 'stuffthingmaps' / split
        paths = sorted(folder.glob('*.png'))
        if not paths:
            continue
        found = True
        out = (args.out_dir or args.coco_path) / 'stuffthingmaps_semseg' / split
        out.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max(args.nproc, 1)) as pool:
            list(pool.map(partial(convert, out=out, classes=classes), paths))
        print(f'{out}: {len(paths)} maps')
    if not found:
        raise UserFileError(f'there are no maps {args.coco_path}/stuffthingmaps/{{{",".join(SPLITS)}}}/*.png')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
