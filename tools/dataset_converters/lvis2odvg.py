"""Turn an LVIS file into one of ODVG, whose pictures are named below the folder of COCO.

    python tools/dataset_converters/lvis2odvg.py data/coco/annotations/lvis_v1_train.json

writes lvis_v1_train_od.json and lvis_v1_label_map.json beside it; of lvis_v1_train_norare.json, which lvis2ovd.py
makes, lvis_v1_train_od_norare.json and lvis_v1_label_map_norare.json.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', type=Path, help='LVIS file')
    parser.add_argument('-o', '--output', type=Path, help='ODVG file to write (beside the input)')
    args = parser.parse_args(argv)
    from mmdet.datasets.reading.to_odvg import convert_detection

    stem, rare = args.input.stem.removesuffix('_norare'), '_norare' if args.input.stem.endswith('_norare') else ''
    output = args.output or args.input.with_name(f'{stem}_od{rare}.json')
    label_map = output.with_name(f'lvis_v1_label_map{rare}.json')
    name = lambda image: '/'.join(image['coco_url'].split('/')[-2:])
    print(convert_detection(args.input, output, label_map, name, image_keys=('id', 'coco_url')))


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
