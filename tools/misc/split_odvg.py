"""Take a few pictures out of an ODVG data set, with their files, so that a training can be tried on them.

    python tools/misc/split_odvg.py data/objects365v1/ o365v1_train_odvg.json train out -m o365v1_label_map.json

writes out/o365v1_train_odvg.json, the label map, and the pictures below out/train.
"""

import argparse
import os
import random
import shutil
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError, UserValueError


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', type=Path, help='folder of the data set')
    parser.add_argument('ann_file', help='ODVG file below data_root')
    parser.add_argument('img_prefix', help='folder of the pictures below data_root')
    parser.add_argument('output_dir', type=Path, help='folder to write to')
    parser.add_argument('-m', '--label-map-file', help='label map below data_root')
    parser.add_argument('-n', '--num-img', type=int, default=200, help='number of pictures (200)')
    parser.add_argument('--seed', type=int, default=0, help='of the choice (0)')
    args = parser.parse_args(argv)
    if args.num_img < 1:
        raise UserValueError(f'--num-img must be at least 1, not {args.num_img}')
    from mmdet.datasets.reading.odvg_file import read_lines, write_lines

    records = [record for _, record in read_lines(str(args.data_root / args.ann_file))]
    chosen = sorted(random.Random(args.seed).sample(range(len(records)), min(args.num_img, len(records))))
    kept = [records[index] for index in chosen]
    for name in dict.fromkeys(record['filename'] for record in kept):
        source, target = (root / args.img_prefix / name for root in (args.data_root, args.output_dir))
        if not source.is_file():
            raise UserFileError(f'{args.ann_file} names {source}, which does not exist')
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    write_lines(str(args.output_dir / args.ann_file), kept)
    if args.label_map_file:
        target = args.output_dir / args.label_map_file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(args.data_root / args.label_map_file, target)
    print(f'{len(kept)} of {len(records)} pictures in {args.output_dir}')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
