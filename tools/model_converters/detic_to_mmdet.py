"""Convert the official weights of Detic to the names of the project Detic_new of MMDetection 3.x.

python tools/model_converters/detic_to_mmdet.py --src detic.pth --dst detic_mmdet.pth
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import convert_file, run


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--src', required=True, help='official file')
    parser.add_argument('--dst', required=True, help='file to write')
    args = parser.parse_args(argv)
    from mmdet.apis.old_weights import from_detic, tensors_of

    convert_file(args.src, args.dst, lambda content: from_detic(tensors_of(content, 'model')))


if __name__ == '__main__':
    run(main)
