"""Turn the training expressions of RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO, as MDETR wrote them, into ODVG.

    python tools/dataset_converters/refcoco2odvg.py data/coco/mdetr_annotations

writes finetune_refcoco_train_vg.json and its kin beside the files that there are.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError

NAMES = ('refcoco', 'refcoco+', 'refcocog', 'grefcoco')


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('mdetr_anno_dir', type=Path, help='folder with finetune_refcoco_train.json and its kin')
    parser.add_argument('-o', '--out-dir', type=Path, help='folder to write to (the same)')
    args = parser.parse_args(argv)
    sources = [path for name in NAMES if (path := args.mdetr_anno_dir / f'finetune_{name}_train.json').is_file()]
    if not sources:
        raise UserFileError(f'{args.mdetr_anno_dir} has none of finetune_refcoco_train.json and its kin')
    from mmdet.datasets.reading.to_odvg import convert_captions

    for source in sources:
        print(convert_captions(source, (args.out_dir or args.mdetr_anno_dir) / f'{source.stem}_vg.json'))


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
