"""Split COCO's training pictures into labelled and unlabelled ones, for semi-supervised training.

    python tools/misc/split_coco.py --labeled-percent 1 10 --fold 5

writes instances_train2017.FOLD@PERCENT.json and instances_train2017.FOLD@PERCENT-unlabeled.json. The draws are those of
MMDetection 3.x and of the paper: numpy's with the fold as seed and with replacement, so that of a few percent a few
pictures less are labelled.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserValueError

NAME = 'instances_train2017'


def write(path: Path, content: dict) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


def split_coco(content: dict, out_dir: Path, percent: float, fold: int) -> tuple[int, int]:
    """Write both parts of a COCO file; returns how many pictures are in each."""
    import numpy as np

    images = content['images']
    np.random.seed(fold)
    drawn = set(np.random.choice(range(len(images)), size=int(percent / 100 * len(images))).tolist())
    chosen = {images[index]['id'] for index in drawn}
    counts = []
    for labelled, suffix in ((True, ''), (False, '-unlabeled')):
        part = dict(content, images=[image for image in images if (image['id'] in chosen) == labelled])
        part['annotations'] = [row for row in content['annotations'] if (row['image_id'] in chosen) == labelled]
        write(out_dir / f'{NAME}.{fold}@{percent:g}{suffix}.json', part)
        counts.append(len(part['images']))
    return counts[0], counts[1]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', type=Path, default=Path('data/coco'), help='folder of COCO')
    parser.add_argument('--out-dir', type=Path, default=Path('data/coco/semi_anns'), help='folder to write to')
    parser.add_argument(
        '--labeled-percent', type=float, nargs='+', default=[1, 2, 5, 10], help='percentages of labelled pictures'
    )
    parser.add_argument('--fold', type=int, default=5, help='number of draws of each percentage')
    args = parser.parse_args(argv)
    for percent in args.labeled_percent:
        if not 0 < percent <= 100:
            raise UserValueError(f'--labeled-percent must lie between 0 and 100, not {percent:g}')
    path = args.data_root / 'annotations' / f'{NAME}.json'
    if not path.is_file():
        raise UserFileError(f'{path}: there is no such file; --data-root must be the folder of COCO')
    content = json.loads(path.read_text())
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for fold in range(1, args.fold + 1):
        for percent in args.labeled_percent:
            labelled, unlabelled = split_coco(content, args.out_dir, percent, fold)
            print(f'{NAME}.{fold}@{percent:g}: {labelled} pictures with labels, {unlabelled} without')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
