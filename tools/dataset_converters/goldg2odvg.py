"""Turn a COCO file of captions into one of ODVG: GoldG, which is Flickr30k Entities and GQA as MDETR wrote them.

    python tools/dataset_converters/goldg2odvg.py data/flickr30k_entities/final_flickr_separateGT_train.json

writes final_flickr_separateGT_train_vg.json beside it.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', type=Path, help='COCO file whose images have captions')
    parser.add_argument('-o', '--out-ann', '--output', type=Path, help='ODVG file to write (beside the input)')
    args = parser.parse_args(argv)
    from mmdet.datasets.reading.to_odvg import convert_captions

    print(convert_captions(args.input, args.out_ann or args.input.with_name(f'{args.input.stem}_vg.json')))


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
