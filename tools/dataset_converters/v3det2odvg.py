"""Turn the annotations of V3Det into a file of ODVG.

    python tools/dataset_converters/v3det2odvg.py data/V3Det/annotations/v3det_2023_v1_train.json

writes v3det_2023_v1_train_od.json and v3det_2023_v1_label_map.json beside it.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', type=Path, help='annotation file of V3Det')
    parser.add_argument('-o', '--output', type=Path, help='ODVG file to write; the label map comes beside it')
    args = parser.parse_args(argv)
    from mmdet.datasets.reading.to_odvg import convert_detection

    output = args.output or args.input.with_name(f'{args.input.stem}_od.json')
    print(convert_detection(args.input, output, output.with_name('v3det_2023_v1_label_map.json')))


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
