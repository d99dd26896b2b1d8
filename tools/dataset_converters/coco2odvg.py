"""Turn a COCO file into one of ODVG, and the names of its classes into a label map.

    python tools/dataset_converters/coco2odvg.py data/coco/annotations/instances_train2017.json -d coco

writes instances_train2017_od.json and coco2017_label_map.json beside it. Without -d the label map has the name of the
file. Labels go by the ids of the categories.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))

LABEL_MAPS = {
    'coco': 'coco2017_label_map.json',
    'o365v1': 'o365v1_label_map.json',
    'o365v2': 'o365v2_label_map.json',
    'v3det': 'v3det_2023_v1_label_map.json',
}


def last_two(image):
    """Objects365 v2 lies in folders patch*, which the last two parts of the names tell."""
    return '/'.join(image['file_name'].split('/')[-2:])


def outputs(source: Path, output: Path | None, dataset: str | None) -> tuple[Path, Path]:
    """The ODVG file and the label map, by the names that the configs have."""
    if output is None:
        name = 'o365v1_train_odvg.json' if dataset == 'o365v1' else f'{source.stem}_od.json'
        output = source.with_name(name)
    return output, output.with_name(LABEL_MAPS.get(dataset, f'{source.stem}_label_map.json'))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', type=Path, help='COCO file')
    parser.add_argument('-o', '--output', type=Path, help='ODVG file to write (beside the input)')
    parser.add_argument('-d', '--dataset', choices=LABEL_MAPS, help='what the label map is called after')
    args = parser.parse_args(argv)
    from mmdet.datasets.reading.to_odvg import convert_detection

    names = {'filename_of': last_two} if args.dataset == 'o365v2' else {}
    print(convert_detection(args.input, *outputs(args.input, args.output, args.dataset), **names))


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
